"""Where a run tells its scores, options and pictures: TensorBoard, CSV, Weights & Biases, MLflow, trackio.

All of them write on this machine, and none sends anything unless `logger.wandb.mode=online`.
"""

import os
import re
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from segmentation.errors import UserError
from segmentation.options import call

_SILENT = {
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
}
"""Variables by which these packages leave their makers and the console alone; a user's own values are kept."""

_RESULTS = ("val/miou", "test/miou", "test/iou", "test/pixel_accuracy", "test/dice", "val/loss", "test/loss")

Options = dict[str, Any]


def build_loggers(
    folder: Path,
    *,
    tensorboard: bool = False,
    csv: bool = False,
    wandb: Options | None = None,
    mlflow: Options | None = None,
    trackio: Options | None = None,
) -> list[Logger]:
    """The loggers of the run in `folder`, as `conf/logger` names them.

    The last three are packages of their own and keep the runs of all folders in one place, in which a resumed run
    goes on as the same. Raises `UserError` for one that is not installed and for options that it does not have.
    """
    loggers: list[Logger] = []
    if tensorboard:
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False))
    if csv:
        loggers.append(CSVLogger(folder, name="csv"))
    others: dict[str, tuple[Callable[..., Logger], Options | None]] = {
        "wandb": (_wandb, wandb),
        "mlflow": (_mlflow, mlflow),
        "trackio": (Trackio, trackio),
    }
    for name, (build, options) in others.items():
        if options is not None:
            if find_spec(name) is None:
                raise UserError(f"logger={name} needs {name}: pip install '.[{name}]'.")
            for variable, value in _SILENT.items():
                os.environ.setdefault(variable, value)
            # Of several processes the first alone opens their stores.
            first = getattr(rank_zero_only, "rank", 0) == 0
            loggers.append(call(f"logger.{name}", build, folder, **options) if first else DummyLogger())
    return loggers


@contextmanager
def closing(loggers: list[Logger]) -> Iterator[None]:
    """Ends the runs of wandb and trackio, of which a process has one at a time, however the block ends."""
    try:
        yield
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                import wandb

                wandb.finish()
            elif isinstance(logger, Trackio):
                logger.close()


def _wandb(run: Path, *, project: str, folder: str, mode: Literal["offline", "online"]) -> WandbLogger:
    place = _made(folder)
    key = f"{zlib.crc32(str(run.resolve()).encode()):08x}"
    logger = WandbLogger(
        name=_name(run), project=_plain(project), save_dir=place, id=key, offline=mode == "offline", mode=mode
    )
    logger._wandb_init.pop("anonymous")  # wandb warns about it, though it is None
    return logger


def _mlflow(run: Path, *, project: str, folder: str) -> MLFlowLogger:
    place = _made(folder)
    store = f"sqlite:///{place / 'mlflow.db'}"
    own = str(run.resolve())
    return MLFlowLogger(
        experiment_name=project,
        run_name=_name(run),
        tracking_uri=store,
        tags={"folder": own},
        artifact_location=(place / "mlflow").as_uri(),
        run_id=_earlier(store, project, own),
    )


def _earlier(store: str, project: str, run: str) -> str | None:
    """MLflow's id of a run, if it was begun."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name(project)
    if experiment is None:
        return None
    quote = '"' if "'" in run else "'"
    folder = f"tags.folder = {quote}{run}{quote}"
    found = client.search_runs([experiment.experiment_id], folder, max_results=1)
    return found[0].info.run_id if found else None


class Trackio(Logger):
    """Lightning has none of its own for trackio."""

    def __init__(self, run: Path, *, project: str, folder: str) -> None:
        super().__init__()
        self._run, self._project = run, project
        os.environ.setdefault("TRACKIO_DIR", str(_made(folder)))

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The run."""
        return _name(self._run)

    @cached_property
    def experiment(self) -> Any:
        """trackio's run, which begins, or goes on, when it is first asked for."""
        import trackio

        with redirect_stdout(None):
            return trackio.init(
                _plain(self._project),
                self.version,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The options, which trackio takes with the first scores."""
        self.experiment.config.update(vars(params) if isinstance(params, Namespace) else params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Scores of a step."""
        self.experiment.log(dict(metrics), step)

    def close(self) -> None:
        """Writes what is left, if the run has begun."""
        if "experiment" in vars(self):
            import trackio

            with redirect_stdout(None):
                trackio.finish()


def _made(folder: str) -> Path:
    place = Path(folder).expanduser().resolve()
    place.mkdir(parents=True, exist_ok=True)
    return place


def _name(run: Path) -> str:
    """The last parts of the run's folder: NAME/DATE_TIME."""
    return _plain("/".join(run.resolve().parts[-2:]))


def _plain(name: str) -> str:
    r"""A name that all of them take: none of `/\#?%:`."""
    return re.sub(r"[^\w.+=-]+", "-", name)


SHOWING = (TensorBoardLogger, WandbLogger, MLFlowLogger, Trackio, DummyLogger)
"""Loggers that show pictures, and those that stand for them in other processes."""


def log_picture(logger: Logger, name: str, picture: Image.Image, step: int) -> None:
    """Shows a picture where the logger can."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, np.asarray(picture), step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        import wandb

        logger.experiment.log({name: wandb.Image(picture), "trainer/global_step": step})
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, picture, key=name, step=step)
    elif isinstance(logger, Trackio):
        import trackio

        logger.experiment.log({name: trackio.Image(picture)}, step)


def log_choices(loggers: list[Logger], config: Mapping[str, Any]) -> None:
    """Writes the chosen options at a run's beginning, but for TensorBoard: see `log_summary`."""
    for logger in loggers:
        if isinstance(logger, MLFlowLogger):  # which refuses another value where a resumed run has one
            known = logger.experiment.get_run(logger.run_id).data.params
            logger.log_hyperparams({k: value for k, value in _choices(config).items() if k not in known})
        elif not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(_choices(config))


def log_summary(loggers: list[Logger], config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Writes the chosen options and the results into TensorBoard's hparams table, which needs both at once."""
    # Leave out nan scores, by which the table cannot sort.
    results = {name: metrics[name] for name in _RESULTS if name in metrics and metrics[name] == metrics[name]}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(_choices(config), results)


def _choices(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options chosen in each group, and the values in which runs most often differ."""
    choices = {group: config[group]["name"] for group in ("backbone", "dataset", "head", "loss", "scheduler")}
    for group in ("loss", "optimizer", "scheduler"):
        choices |= {f"{group}.{option}": value for option, value in config[group].items() if option != "name"}
    choices |= {
        "augmentation": ", ".join(
            f"{name} {value}" for name, value in config["augmentation"].items() if value
        ),
        "batch_size": config["data"]["batch_size"],
        "optimizer": config["optimizer"]["name"],
        "output_stride": config["output_stride"],
        "seed": config["seed"],
        "size": "x".join(map(str, config["data"]["size"])),
        "weights": config["weights"],
    }
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in choices.items()
    }
