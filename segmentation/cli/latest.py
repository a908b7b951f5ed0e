"""Which run `resume=auto` goes on with."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from segmentation.cli.compose import CONF
from segmentation.cli.takeup import differences

_FOR_THIS_TIME = "trainer."
"""Options that may change when a run goes on: how long, on how many devices."""


def latest_unfinished(overrides: Sequence[str]) -> Path | None:
    """The run of these options that last wrote a checkpoint, has no report, and is nobody's work now; or None.

    Looked for where a new run would be put. Raises Hydra's exceptions for what cannot be composed.
    """
    import hydra
    from omegaconf import OmegaConf

    given = [override for override in overrides if not override.startswith("-")]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", given, return_hydra_config=True)
        place = Path(config.hydra.run.dir)
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        now = OmegaConf.to_container(own, resolve=True)
    assert isinstance(now, dict)
    settled = any(override.startswith("hydra.run.dir=") for override in given)
    options = {str(key): value for key, value in now.items()}
    found = [
        folder
        for folder in ([place] if settled else _folders(place.parent))
        if (folder / "checkpoints" / "last.ckpt").is_file()
        and not (folder / "report.json").exists()
        and _same(folder, options)
        and _is_free(folder)
    ]
    return max(found, key=lambda folder: (folder / "checkpoints" / "last.ckpt").stat().st_mtime, default=None)


def _folders(place: Path) -> Iterable[Path]:
    return place.iterdir() if place.is_dir() else ()


def _same(folder: Path, options: dict[str, object]) -> bool:
    try:
        earlier = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return False
    if not isinstance(earlier, dict):
        return False
    return all(difference.startswith(_FOR_THIS_TIME) for difference in differences(earlier, options))


def _is_free(folder: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / ".lock", timeout=0):
            return True
    except Timeout:
        return False
