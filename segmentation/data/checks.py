"""A look at a data set before a run spends time on it."""

from segmentation.data.opening import present_values
from segmentation.data.source import Samples, Source
from segmentation.errors import UserError
from segmentation.sample import IGNORE_INDEX

LOOKS = 16
"""Samples of a split that are read."""


def check(source: Source) -> None:
    """Reads samples spread over each split, so that what is wrong with the data shows before the first step.

    The data sets check each file as they read it, its number of bands included, now as later. Beyond that,
    raises `UserError` for an empty split, for a split whose masks are ignored entirely, and for masks of 0/255
    in data of several classes.
    """
    looked_at: list[Samples] = []
    for split, samples in source.splits().items():
        if not len(samples):
            raise UserError(f"The {split} split holds no images: every split needs at least one.")
        if samples not in looked_at:  # val may serve as test
            looked_at.append(samples)
            _check_labels(split, samples, binary=source.classes.binary)


def spread(length: int, count: int) -> list[int]:
    """At most `count` evenly spaced indices below `length`, the first and the last among them."""
    if length <= count:
        return list(range(length))
    return [round(step * (length - 1) / (count - 1)) for step in range(count)]


def _check_labels(split: str, samples: Samples, *, binary: bool) -> None:
    seen: set[int] = set()
    places = spread(len(samples), LOOKS)
    for index in places:
        seen |= set(present_values(samples[index]["mask"]))
    if seen == {IGNORE_INDEX}:
        raise UserError(
            f"All pixels of the {len(places)} {split} masks looked at are ignored: "
            "mend the masks or dataset.ignore."
        )
    if seen == {0, IGNORE_INDEX} and not binary:
        raise UserError(
            f"The {len(places)} {split} masks looked at hold only 0 and 255, and 255 is ignored: "
            "use dataset=binary for masks of 0/255."
        )
