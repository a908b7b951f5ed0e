"""A run as one row of TensorBoard's hparams table."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger

_RESULTS = ("val/miou", "test/miou", "test/iou", "test/pixel_accuracy", "test/dice", "val/loss", "test/loss")


def log_summary(loggers: list[Logger], config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Writes what was chosen together with what came of it: the table shows no run without its metrics."""
    # A score that does not exist is nan, and unequal to itself: the table could not sort by it.
    results = {name: metrics[name] for name in _RESULTS if name in metrics and metrics[name] == metrics[name]}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(_choices(config), results)


def _choices(config: Mapping[str, Any]) -> dict[str, Any]:
    """The names of the groups' options, and the values that runs most often differ in."""
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
