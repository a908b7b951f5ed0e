"""Options held to their range."""

import math

from segmentation.errors import UserError


def check(option: str, value: object, right: bool, rule: str) -> None:
    """Raises `UserError`, "it must be RULE", unless the value is `right`; infinity and nan never are."""
    if not right or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"{option}={value} is not right: it must be {rule}.")
