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
    reports = []
    for folder in folders:
        paths = sorted(Path(folder).expanduser().rglob("report.json"))
        found = [
            report
            for report in map(_read, paths)
            if METRIC in report["metrics"] and "backbone" in report["model"]
        ]
        if not found:
            raise UserError(f"runs={folder} holds no finished run: there is no report.json with a {METRIC}.")
        reports += found
    data = sorted({str(report["data"].get("name")) for report in reports})
    if len(data) > 1:
        raise UserError(
            f"runs: their data differ ({', '.join(data)}), so their mIoU do not compare: give runs of one."
        )
    return reports


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
    return model["backbone"].get("name"), model["head"].get("name"), model["output_stride"]


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text())
        return {part: dict(report.get(part, {})) for part in ("metrics", "model", "data")}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: it is no report of a run.") from error
