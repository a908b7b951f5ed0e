"""What the folders of a sweep are called: a person finds the job, and no shell or option needs quotes for it."""

import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

_LONGEST = 120  # file systems allow 255 bytes
_AWKWARD = re.compile(r"[^\w.+-]+")
_PART = re.compile(r"\$\{(\w+)[^}]*\}")
_NUMBERS = re.compile(r"\[[\d.,-]*\]")


def own_overrides(overrides: Sequence[str], shared: Collection[str]) -> list[str]:
    """The overrides that tell a job from the others, ordered by key; all of them where none does."""
    own = [override for override in overrides if _key(override) not in shared]
    return sorted(own or overrides, key=_key)


def job_folder(overrides: Sequence[str], shared: Collection[str]) -> str:
    """The name of a job's folder by its own overrides: `backbone-resnet18+seed-1`.

    Long names end in a hash of the whole, and values that a name cannot hold as they are in one of the value.
    """
    name = "+".join(map(_plain, own_overrides(overrides, shared))) or "job"
    if len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{_hash(name)}"


def name_sweep(config: DictConfig, swept: Collection[str], config_folders: Sequence[Path]) -> None:
    """Leaves out of the config's name what differs between the jobs: it is put together from options.

    `swept` are the jobs' own keys. A group of `config_folders` whose files may write anywhere may set the whole name.
    """
    raw = OmegaConf.to_container(config, resolve=False)
    name = raw.get("name") if isinstance(raw, dict) else None
    if not isinstance(name, str):
        return
    groups = {key.partition(".")[0] for key in swept}
    others = groups - set(_PART.findall(name))
    files = [
        file for folder in config_folders for group in others for file in (folder / group).glob("*.yaml")
    ]
    if any(file.read_text().startswith("# @package _global_") for file in files):
        name = ""
    kept = _PART.sub(lambda match: "" if match[1] in groups else match[0], name)
    config.name = kept.strip("_") or "sweep"


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _plain(override: str) -> str:
    value = override.partition("=")[2]
    plain = _AWKWARD.sub("_", value).strip("_")
    # val/loss and val_loss are two jobs; a list of numbers is no other value's name.
    told = plain if plain == value or _NUMBERS.fullmatch(value) else f"{plain}-{_hash(value)}"
    return f"{_AWKWARD.sub('_', _key(override))}-{told}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


# The processes of a launcher import this file with the jobs that they are sent, and name the folders there.
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
