"""A function of a config, made a command."""

import functools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from segmentation.cli.help import help_text

CONF = Path(__file__).parents[2] / "conf"

Job = Callable[[Mapping[str, Any], Path], float]


def script(config_name: str) -> Callable[[Job], Callable[[], None]]:
    """Makes `job(config, folder) -> float` a command over `conf/<config_name>.yaml`.

    The job gets its config as plain data and the folder of its run. A mistake of the user's ends in one
    message on stderr and exit status 2; `HYDRA_FULL_ERROR=1` shows the traceback instead.
    """

    def decorate(job: Job) -> Callable[[], None]:
        @functools.wraps(job)
        def command() -> None:
            if {"-h", "--help"} & set(sys.argv[1:]):
                print(help_text(Path(sys.argv[0]).name, job.__doc__ or "", CONF, config_name))  # noqa: T201
                return
            full_error = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"
            try:
                _run(job, config_name, quiet=not full_error)
            except Exception as error:
                # Imported here: the messages know Hydra, and the help above should not wait for it.
                from segmentation.cli.messages import explain

                message = None if full_error else explain(error)
                if message is None:
                    raise
                stop(message)

        return command

    return decorate


def stop(message: str) -> NoReturn:
    """Ends the process as for a mistake of the user's."""
    sys.stderr.write(f"error: {message}\n")
    sys.exit(2)


def _run(job: Job, config_name: str, *, quiet: bool) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf

    from segmentation.cli.messages import explain
    from segmentation.cli.resume import resumed

    @functools.wraps(job)
    def task(composed: DictConfig) -> float:
        hydra_config = HydraConfig.get()
        try:
            config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
            assert isinstance(config, dict)
            return job(
                {str(key): value for key, value in config.items()}, Path(hydra_config.runtime.output_dir)
            )
        except Exception as error:
            message = explain(error) if quiet and hydra_config.mode is RunMode.RUN else None
            if message is None:
                raise
            # Hydra would print the overrides above an exception that passes through it.
            stop(message)

    # Hydra would print its own report of a wrong override and end with exit status 1; so it hands it to us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv[1:] = resumed(sys.argv[1:])
    hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(task)()
