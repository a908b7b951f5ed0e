"""Results of benchmarks as Markdown and CSV tables, and the scores of finished runs of the same models."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmentation.errors import UserError
from segmentation.reading import read_json
from segmentation.report.protocol import IGNORED_DATA, with_absolute_root
from segmentation.report.report import cell

RESULT = "result.json"
"""The file that each job writes into its folder."""


@dataclass(frozen=True)
class Row:
    """One measured model. `settings` holds the options that may differ between rows, by column name."""

    backbone: str
    settings: dict[str, str]
    batch_size: int
    parameters: int
    flops: int
    train_rate: float  # images per second, by batches
    infer_rate: float
    latency_ms: float  # inference of one image
    peak_bytes: int  # of a training step
    spread: float  # interquartile range over median, the largest of all measurements
    score: Mapping[str, Any] | None
    environment: Mapping[str, Any]


def read_rows(folder: Path) -> list[Row]:
    """The results in the folder and in the folders of its jobs, fastest inference first.

    Raises `UserError` for a file that is none.
    """
    paths = sorted([*folder.glob(RESULT), *folder.glob(f"*/{RESULT}")])
    return sorted(map(_read_row, paths), key=lambda row: -row.infer_rate)


def _read_row(path: Path) -> Row:
    try:
        return _row(read_json(path))
    except (OSError, UserError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{path} is no result of benchmark.py: move it elsewhere.") from error


def _row(result: Mapping[str, Any]) -> Row:
    batch_size = result["batch_size"]
    measured = {(part["mode"], part["batch_size"]): part for part in result["measurements"]}
    training, inference = measured["train", batch_size], measured["infer", batch_size]
    return Row(
        backbone=result["model"]["backbone"]["name"],
        settings=_settings(result),
        batch_size=batch_size,
        parameters=result["parameters"],
        flops=result["flops"],
        train_rate=training["images_per_second"],
        infer_rate=inference["images_per_second"],
        latency_ms=measured["infer", 1]["median_ms"],
        peak_bytes=training["peak_bytes"],
        spread=max(part["quartile_range_ms"] / part["median_ms"] for part in result["measurements"]),
        score=result["score"],
        environment=result["environment"],
    )


def _settings(result: Mapping[str, Any]) -> dict[str, str]:
    height, width = result["input"]["size"]
    return {
        "source": result["model"]["backbone"].get("source", "torchvision"),
        "head": result["model"]["head"]["name"],
        "stride": str(result["output_stride"]),
        "size": f"{height}x{width}",
        "channels": str(result["input"]["channels"]),
        "outputs": str(result["model"]["outputs"]),
        "batch": str(result["batch_size"]),
        "precision": result["precision"],
        "channels last": "yes" if result["channels_last"] else "no",
        "aux": "yes" if result["model"]["aux"] else "no",
        "rates": _options(result["model"]["head"].get("rates")),
        "taps": _options(result["model"]["backbone"].get("taps")),
        "loss": result["loss"],
        "optimizer": result["optimizer"],
    }


def _options(value: Any) -> str:
    return "usual" if value is None else str(value)


def markdown(rows: Sequence[Row], failures: Mapping[str, str]) -> str:
    """A table of all rows. Settings in which they differ are columns, the others are listed below the table.

    `failures` holds the reason of each failed job by its name.
    """
    varying = varying_settings(rows)
    batch = "N" if "batch" in varying else str(rows[0].batch_size)
    scored = any(row.score for row in rows)
    numbers = [
        *("parameters M", "GFLOPs", f"train img/s (batch {batch})", f"infer img/s (batch {batch})"),
        *("latency ms (batch 1)", "peak MB", *(["mIoU"] if scored else [])),
    ]
    lines = [
        _line(["backbone", *varying, *numbers]),
        _line(["---"] * (1 + len(varying)) + ["---:"] * len(numbers)),
    ]
    for row in rows:
        cells = [
            *(_short(row.parameters / 1e6), _short(row.flops / 1e9), _short(row.train_rate)),
            *(_short(row.infer_rate), _short(row.latency_ms), f"{row.peak_bytes / 1e6:.0f}"),
        ]
        score = [f"{row.score['mean']:.3f}" if row.score else "-"] if scored else []
        lines.append(_line([row.backbone, *(row.settings[name] for name in varying), *cells, *score]))
    return "\n".join([*lines, "", *_notes(rows, varying), *_failed(failures)]) + "\n"


def varying_settings(rows: Sequence[Row]) -> list[str]:
    """The names of the settings in which the rows differ."""
    return [name for name in rows[0].settings if len({row.settings[name] for row in rows}) > 1]


def comma_separated(rows: Sequence[Row]) -> str:
    """All rows as CSV in full precision."""
    text = io.StringIO()
    names = ("parameters", "flops", "train_rate", "infer_rate", "latency_ms", "peak_bytes", "spread")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["backbone", *rows[0].settings, *names, "miou"])
    for row in rows:
        score = row.score["mean"] if row.score else ""
        writer.writerow(
            [row.backbone, *row.settings.values(), *(getattr(row, name) for name in names), score]
        )
    return text.getvalue()


def _notes(rows: Sequence[Row], varying: Sequence[str]) -> list[str]:
    shared = "; ".join(f"{name} {value}" for name, value in rows[0].settings.items() if name not in varying)
    about = rows[0].environment
    notes = [
        f"{shared[0].upper()}{shared[1:]}.",
        f"Measured on {about['date'][:10]} on {about['device']}, with torch {about['torch']} and torchvision"
        f" {about['torchvision']}. Times are medians; the interquartile range is at most"
        f" {max(row.spread for row in rows):.0%} of the median.",
        "Parameters and GFLOPs (forward pass of one image; a multiply-add is two) are of the whole model with its head."
        " Peak MB: memory of tensors in a training step of the batch, with weights and optimizer state.",
    ]
    scores = [row.score for row in rows if row.score]
    if scores:
        data = ", ".join(sorted({score["data"] for score in scores}))
        counts = sorted({score["runs"] for score in scores})
        runs = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        notes.append(f"mIoU: {scores[0]['metric']} on {data}, the mean of {runs} run(s) per model.")
    return ["  \n".join(notes), "", "```", about["command"], "```"]


def _failed(failures: Mapping[str, str]) -> list[str]:
    return (
        ["", "Not measured:", "", *(f"- {cell(name)}: {cell(reason)}" for name, reason in failures.items())]
        if failures
        else []
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


METRIC = "test/miou"
"""The score shown beside the speed."""


def read_scores(folders: Sequence[str]) -> list[dict[str, Any]]:
    """Read the reports (`report.json`) of all runs below these folders.

    Raises `UserError` for a folder without reports, a damaged report, and reports of several data sets, whose scores
    cannot be compared.
    """
    reports: dict[Path, dict[str, Any]] = {}
    for folder in folders:
        # Only training runs: the report of an evaluation would count the same model twice.
        runs = [path.parent for path in sorted(Path(folder).expanduser().rglob("checkpoints"))]
        found = {
            run.resolve(): _read_report(run / "report.json")
            for run in runs
            if (run / "report.json").is_file()
        }
        if not found:
            raise UserError(f"runs={folder} holds no finished run: there is no report.json with a {METRIC}.")
        reports |= found
    data = sorted({_data_key(report) for report in reports.values()})
    if len(data) > 1:
        raise UserError(
            f"runs: their data differ ({'; '.join(data)}), so their mIoU cannot be compared: give runs of one."
        )
    return list(reports.values())


def score_of(model: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The mean score of runs with the same backbone, head and output stride as `model`; None without such a run."""
    scores = [
        report["metrics"][METRIC]
        for report in reports
        if _model_key(report["model"]) == _model_key(model) and report["metrics"][METRIC] is not None
    ]
    if not scores:
        return None
    return {
        "metric": METRIC,
        "mean": sum(scores) / len(scores),
        "runs": len(scores),
        "data": reports[0]["data"].get("name"),
    }


def _model_key(model: Mapping[str, Any]) -> tuple[Any, ...]:
    backbone, head = model["backbone"], model["head"]
    source = backbone.get("source", "torchvision")
    return source, backbone["name"], head["name"], model["output_stride"], model.get("channels", 3)


def _data_key(report: Mapping[str, Any]) -> str:
    data = with_absolute_root(report["data"])
    options = {key: value for key, value in data.items() if key not in IGNORED_DATA}
    return ", ".join(f"{key}={value}" for key, value in options.items())


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = read_json(path)
        _model_key(report["model"])
        _data_key(report)
        value = report["metrics"][METRIC]
        if value is not None and not isinstance(value, int | float):
            raise TypeError(value)
    except (OSError, UserError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged: it is no report of a run.") from error
    return report
