"""The mIoU of finished runs, to stand beside the speed of their models."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segmentation.errors import UserError

METRIC = "test/miou"


def read_scores(folders: Sequence[str]) -> list[dict[str, Any]]:
    """The reports (`report.json`) of all runs under these folders.

    Raises `UserError` for a folder without any, a damaged report, and where they are of several data sets:
    their scores do not compare.
    """
    reports: dict[Path, dict[str, Any]] = {}
    for folder in folders:
        # Only what a training left: an evaluation's report counts the same model again.
        runs = [path.parent for path in sorted(Path(folder).expanduser().rglob("checkpoints"))]
        found = {run.resolve(): _read(run / "report.json") for run in runs if (run / "report.json").is_file()}
        if not found:
            raise UserError(f"runs={folder} holds no finished run: there is no report.json with a {METRIC}.")
        reports |= found
    data = sorted({_data(report) for report in reports.values()})
    if len(data) > 1:
        raise UserError(
            f"runs: their data differ ({'; '.join(data)}), so their mIoU do not compare: give runs of one."
        )
    return list(reports.values())


def score_of(model: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The mean of the runs of a model of this description's backbone, head and output stride; None without any."""
    scores = [
        report["metrics"][METRIC]
        for report in reports
        if _key(report["model"]) == _key(model) and report["metrics"][METRIC] is not None
    ]
    if not scores:
        return None
    return {
        "metric": METRIC,
        "mean": sum(scores) / len(scores),
        "runs": len(scores),
        "data": reports[0]["data"].get("name"),
    }


def _key(model: Mapping[str, Any]) -> tuple[Any, ...]:
    backbone, head = model["backbone"], model["head"]
    source = backbone.get("source", "torchvision")
    return source, backbone["name"], head["name"], model["output_stride"], model.get("channels", 3)


def _data(report: Mapping[str, Any]) -> str:
    options = {key: value for key, value in report["data"].items() if key not in ("images", "notes")}
    return ", ".join(f"{key}={value}" for key, value in options.items())


def _read(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text())
        _key(report["model"])
        _data(report)
        value = report["metrics"][METRIC]
        if value is not None and not isinstance(value, int | float):
            raise TypeError(value)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged: it is no report of a run.") from error
    return report
