"""What the folders of a sweep are called: a person finds the job, and no shell or option needs quotes for it."""

import hashlib
import re
from collections.abc import Collection, Sequence

from omegaconf import OmegaConf

_LONGEST = 120  # file systems allow 255 bytes
_AWKWARD = re.compile(r"[^\w.+-]+")


def own_overrides(overrides: Sequence[str], shared: Collection[str]) -> list[str]:
    """The overrides that tell a job from the others, ordered by key; all of them where none does."""
    own = [override for override in overrides if _key(override) not in shared]
    return sorted(own or overrides, key=_key)


def job_folder(overrides: Sequence[str], shared: Collection[str]) -> str:
    """The name of a job's folder by its own overrides: `backbone-resnet18+seed-1`.

    Long names end in a hash of the whole.
    """
    name = "+".join(map(_plain, own_overrides(overrides, shared))) or "job"
    if len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _plain(override: str) -> str:
    value = _AWKWARD.sub("_", override.partition("=")[2]).strip("_")
    return f"{_key(override)}-{value}"


# The processes of a launcher import this file with the jobs that they are sent, and name the folders there.
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
