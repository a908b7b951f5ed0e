"""The threshold of a binary model: the checkpoint's own, a number, or the best one on the validation split."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from segmentation.checkpoint import Trained
from segmentation.config import Threshold, check_threshold
from segmentation.errors import UserError
from segmentation.models import Decision
from segmentation.report.protocol import file_hash

EVALUATIONS = Path("outputs/evaluations")
"""Where `evaluate.py` writes unless told otherwise, relative to the working folder."""


def with_threshold(trained: Trained, path: Path, threshold: Threshold) -> Trained:
    """The model of the checkpoint `path` with the threshold that was asked for.

    "auto" keeps the checkpoint's own. "best" takes the one with the best F1 and IoU on the validation split: the
    checkpoint's own if `evaluate.py write_threshold=true` wrote it, else the one in the newest `report.json` of an
    evaluation of this very file on split=val, in the run's folder or in `outputs/evaluations`.

    Raises `UserError` for other values, for a model of several classes unless "auto", and if no report is found.
    """
    check_threshold(threshold)
    if threshold == "auto":
        return trained
    if not trained.classes.binary:
        raise UserError(
            f"threshold={threshold}: {path} has several classes and takes the most probable one. "
            "Leave threshold out."
        )
    if threshold == "best":
        return trained if trained.threshold_is_best else _best(trained, path)
    return replace(trained, decision=Decision(True, float(threshold)), threshold_source="given as an option")


def _best(trained: Trained, path: Path) -> Trained:
    sha256 = file_hash(path)
    reports = sorted(_reports(path), key=lambda report: report.stat().st_mtime, reverse=True)
    for report in reports:
        value = _validation_threshold(report, sha256)
        if value is not None:
            source = f"best F1 and IoU on the val split, from {report}"
            return replace(trained, decision=Decision(True, value), threshold_source=source)
    raise UserError(
        f"threshold=best: no evaluation of {path} on the validation split was found in its run's folder or in "
        f"{EVALUATIONS}. Run evaluate.py with split=val write_threshold=true, or give a number."
    )


def _reports(path: Path) -> Iterator[Path]:
    file = path.resolve()
    run = file.parents[1] if file.parent.name == "checkpoints" else file.parent
    for folder in dict.fromkeys((run, EVALUATIONS.resolve())):
        # An evaluation of several checkpoints has a folder for each of them.
        for pattern in ("*/report.json", "*/*/report.json"):
            yield from folder.glob(pattern)


def _validation_threshold(report: Path, sha256: str) -> float | None:
    try:
        content: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        protocol = content["protocol"]
        if protocol["split"] != "val" or protocol["checkpoint_sha256"] != sha256:
            return None
        value = float(content["metrics"]["val/best_threshold_f1"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # the report of a training run or of a comparison, or no report of ours
    return value if 0 <= value <= 1 else None
