"""The config that a command would get, for notebooks and tests."""

from pathlib import Path
from typing import Any

CONF = Path(__file__).parents[2] / "conf"


def compose(config_name: str, *overrides: str) -> dict[str, Any]:
    """`conf/<config_name>.yaml` with overrides as on a command line, as plain data.

    Raises Hydra's exceptions for what cannot be composed.
    """
    import hydra
    from omegaconf import OmegaConf

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose(config_name, list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}
