"""Write scores to `report.json`, `report.md` and the console, with the protocol by which they were measured."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segmentation.errors import printable
from segmentation.writing import write_json, write_text

HEADLINE_METRICS = {
    True: ("iou", "miou", "dice", "precision", "recall", "pr_auc", "boundary_iou", "pixel_accuracy"),
    False: (
        "miou",
        "pixel_accuracy",
        "mean_accuracy",
        "fw_iou",
        "dice",
        "boundary_iou",
        "roc_auc",
        "calibration_error",
    ),
}
"""The scores at the top of the page, for binary data (True) and for several classes (False)."""

SCORES = {
    "miou": ("mIoU", "mean over classes of intersection over union"),
    "iou": ("IoU", "intersection over union"),
    "dice": ("Dice", "twice the intersection over the sum of both areas"),
    "f1": ("F1", "harmonic mean of precision and recall: for labels the same as Dice"),
    "pixel_accuracy": ("Pixel accuracy", "share of pixels that are right"),
    "mean_accuracy": ("Mean accuracy", "mean over classes of the share of their pixels found"),
    "fw_iou": ("Frequency-weighted IoU", "IoU weighted by each class's share of the pixels"),
    "precision": ("Precision", "share of predicted pixels that are right"),
    "recall": ("Recall", "share of true pixels that are found"),
    "specificity": ("Specificity", "share of background pixels that are right"),
    "roc_auc": ("ROC AUC", "area under the ROC curve, from score histograms"),
    "pr_auc": ("PR AUC", "average precision, from score histograms"),
    "boundary_iou": ("Boundary IoU", "IoU of the bands along the outlines (Cheng et al. 2021)"),
    "calibration_error": (
        "Calibration error",
        "mean distance of confidence from accuracy, 15 bins; 0 is best",
    ),
    "calibration_error_before": ("Calibration error before", "without the model's temperature"),
    "brier_before": ("Brier score before", "without the model's temperature"),
    "brier": ("Brier score", "mean squared error of the probabilities; 0 is best"),
    "best_f1": ("Best F1", "F1 at the threshold that suits these images best"),
    "best_threshold_f1": (
        "Threshold of best F1",
        "chosen on these images: do not report it as a result on them",
    ),
    "best_iou": ("Best IoU", "IoU at the threshold that suits these images best"),
    "best_threshold_iou": (
        "Threshold of best IoU",
        "chosen on these images: do not report it as a result on them",
    ),
    "object_precision": ("Object precision", "share of predicted objects that match a true one at IoU 0.5"),
    "object_recall": ("Object recall", "share of true objects that a predicted one matches at IoU 0.5"),
    "object_f1": ("Object F1", "harmonic mean of both, over all classes"),
    "object_precision_50_95": (
        "Object precision, IoU 0.5:0.95",
        "mean over the thresholds 0.5, 0.55, ..., 0.95",
    ),
    "object_recall_50_95": ("Object recall, IoU 0.5:0.95", "mean over the thresholds"),
    "object_f1_50_95": ("Object F1, IoU 0.5:0.95", "mean over the thresholds"),
    "classes_counted": ("Classes counted", "how many occur in truth or prediction; the means are over these"),
    "pixels": ("Pixels", "true pixels"),
}
"""Title and meaning of each score."""

_LOWER_IS_BETTER = frozenset(
    {"loss", "brier", "calibration_error", "brier_before", "calibration_error_before"}
)


def lower_is_better(metric: str) -> bool:
    """Whether lower values are better, by the name alone, with or without its split: `val/loss`, `brier`."""
    return metric.rpartition("/")[2] in _LOWER_IS_BETTER


def title(name: str) -> str:
    """The title of a score; those of scores by image are built from the score's own title."""
    if name in SCORES:
        return SCORES[name][0]
    for end in ("mean", "median"):
        inner = name.removeprefix("image_").removesuffix(f"_{end}")
        if name == f"image_{inner}_{end}" and inner in SCORES:
            return f"{SCORES[inner][0]}, {end} over images"
    return name.replace("_", " ")


def meaning(name: str) -> str:
    """The meaning of a score in a few words."""
    if name in SCORES:
        return SCORES[name][1]
    return "of each image alone, where defined" if name.startswith("image_") else ""


def best(metric: str, values: Mapping[str, float]) -> set[str]:
    """The names with the best value; empty if all values are equal."""
    defined = [value for value in values.values() if value == value]
    if metric.startswith(("best_threshold", "classes")) or len(set(defined)) < 2:
        return set()
    target = min(defined) if lower_is_better(metric) else max(defined)
    return {name for name, value in values.items() if value == target}


CONSOLE_METRICS = ("miou", "pixel_accuracy", "iou", "dice", "precision", "recall", "loss")

_BASELINE_METRICS = ("iou", "miou", "dice", "pixel_accuracy")
_COLUMNS = ("iou", "precision", "recall")
_PICTURES = ("curves.png", "predictions.png", "confusion.png", "roc.png", "pr.png", "reliability.png")
_SECTIONS = ("protocol", "model", "data", "environment")


def write_report(
    folder: Path,
    report: Mapping[str, Any],
    *,
    splits: Sequence[str] = ("val", "test"),
    complete: bool = False,
) -> None:
    """Write `report.md`, then `report.json` (undefined numbers are null) into `folder`.

    The pictures that are in the folder are shown in `report.md`. `report.json` comes last: a folder that has it is
    finished.
    """
    pictures = [name for name in _PICTURES if (folder / name).is_file()]
    text = markdown(report, splits=splits, complete=complete, pictures=pictures)
    write_text(folder / "report.md", text)
    write_json(folder / "report.json", report)


def markdown(
    report: Mapping[str, Any],
    *,
    splits: Sequence[str] = ("val", "test"),
    complete: bool = False,
    pictures: Sequence[str] = (),
) -> str:
    """The report as Markdown: metrics (the most important, or all if `complete`), classes, pictures, protocol."""
    metrics: Mapping[str, float] = report["metrics"]
    measured = [split for split in splits if f"{split}/miou" in metrics]
    last = unprefixed(metrics, measured[-1])
    names = last if complete else [name for name in CONSOLE_METRICS if name in last]
    rows = [
        [name, *(score_text(name, metrics.get(f"{split}/{name}")) for split in measured)] for name in names
    ]
    lines = ["# Report", "", *grid(["metric", *measured], rows)]
    for sentence in (constant_note(report), baseline_note(report)):
        lines += ["", cell(sentence)] if sentence else []
    classes: Mapping[str, Mapping[str, float]] = report["per_class"]
    shown = [key for key in next(iter(classes.values())) if key != "pixels"] if complete else _COLUMNS
    rows = [
        [cell(name), *(number(row[key]) for key in shown), str(int(row["pixels"]))]
        for name, row in classes.items()
    ]
    lines += ["", f"## Classes of the {splits[-1]} split", ""]
    lines += grid(["class", *("IoU" if key == "iou" else key for key in shown), "pixels"], rows)
    if "objects" in report:
        columns = OBJECT_COLUMNS | OBJECT_AREAS
        rows = [
            [cell(name), *(object_text(column, row[column]) for column in columns)]
            for name, row in object_rows(report["objects"]).items()
        ]
        lines += ["", "## Objects", "", *grid(["class", *columns.values()], rows)]
        lines += ["", *facts(report["objects"]["protocol"])]
    for name in pictures:
        lines += ["", f"![{name.partition('.')[0]}]({name})"]
    for title in _SECTIONS:
        lines += ["", f"## {title.capitalize()}", ""]
        lines += facts(report[title])
    return "\n".join(lines) + "\n"


def table(report: Mapping[str, Any], *, splits: Sequence[str] = ("val", "test")) -> str:
    """The table of scores that the console shows at the end of a run."""
    metrics, per_class = report["metrics"], report["per_class"]
    width = max(14, *(len(name) for name in per_class))
    lines = [" ".join([f"{'':{width}}", *(f"{split:>8}" for split in splits)])]
    for name in CONSOLE_METRICS:
        if f"{splits[-1]}/{name}" in metrics:
            values = (number(metrics.get(f"{split}/{name}")) for split in splits)
            lines.append(" ".join([f"{name:{width}}", *(f"{value:>8}" for value in values)]))
    lines += ["", f"{splits[-1] + ', by class':{width}} {'IoU':>8}"]
    lines += [f"{name:{width}} {number(row['iou']):>8}" for name, row in per_class.items()]
    if "objects" in report:
        lines += ["", *_object_table(report["objects"], width)]
    told = [sentence for sentence in (baseline_note(report), constant_note(report)) if sentence]
    return "\n".join([*lines, *([""] if told else []), *told])


OBJECT_COLUMNS = {
    "true_objects": "true",
    "predicted_objects": "predicted",
    "matches": "matches",
    "misses": "misses",
    "false_alarms": "false alarms",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "f1_50_95": "F1 0.5:0.95",
}
"""Columns of tables of objects, with their heads: counts and scores at IoU 0.5, and the mean over the thresholds."""

OBJECT_AREAS = {"true_area": "true area", "predicted_area": "predicted area"}
"""Further columns, for which the console is too narrow: summed areas in pixels."""


def object_rows(objects: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """The rows of tables of objects: each class, and the sum of several."""
    rows: dict[str, Mapping[str, float]] = dict(objects["per_class"])
    return rows if len(rows) == 1 else rows | {"all classes": objects["all_classes"]}


def object_text(column: str, value: float) -> str:
    """A count, or a score with four digits."""
    return number(value) if column.startswith(("precision", "recall", "f1")) else f"{value:,}"


def _object_table(objects: Mapping[str, Any], width: int) -> list[str]:
    rows = [
        [name, *(object_text(column, row[column]) for column in OBJECT_COLUMNS)]
        for name, row in object_rows(objects).items()
    ]
    lines = [["objects", *OBJECT_COLUMNS.values()], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        " ".join(
            [f"{name:{width}}", *(f"{text:>{space}}" for text, space in zip(texts, widths[1:], strict=True))]
        )
        for name, *texts in lines
    ]


def baseline_note(report: Mapping[str, Any]) -> str:
    """What predicting one class everywhere would score on these images; empty for a report that does not know it."""
    baseline = report.get("baseline")
    if not baseline:
        return ""
    metrics = baseline["metrics"]
    told = [f"{title(name)} {number(metrics[name])}" for name in _BASELINE_METRICS if name in metrics]
    return f"Trivial baseline, {baseline['everywhere']} everywhere: {', '.join(told)}."


def constant_note(report: Mapping[str, Any]) -> str:
    """A sentence about a model that predicts one class everywhere; empty for any other."""
    only = (report.get("baseline") or {}).get("model_predicts_only")
    return "" if only is None else f"The model predicts only {only}: it gives this class to every pixel."


def grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; the first column is aligned left, the others right."""
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def cell(text: str) -> str:
    """Escape a name for Markdown, and what a terminal would obey."""
    marked = printable(" ".join(text.split())).replace("\\", "\\\\").replace("|", "\\|")
    # A name with [ could be a picture at an address, which viewers fetch.
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace("[", "\\[")


def facts(entries: Mapping[str, Any]) -> list[str]:
    """Lines of a Markdown list of names and values, without empty ones."""
    return [f"- {cell(key)}: {cell(fact(entry))}" for key, entry in present(entries).items()]


def present(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are not empty."""
    return {key: entry for key, entry in entries.items() if entry not in (None, "", [], {})}


def fact(entry: Any) -> str:
    """Plain data as readable text."""
    if isinstance(entry, Mapping):
        return ", ".join(f"{key} {fact(item)}" for key, item in present(entry).items())
    if isinstance(entry, list | tuple):
        return ", ".join(map(fact, entry))
    return str(entry)


def number(value: float | None) -> str:
    """Four digits, or a dash for an undefined number."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def score_text(name: str, score: float | None) -> str:
    """A score as text: a whole number for counts, else four digits."""
    return f"{score:.0f}" if name == "classes_counted" and score is not None else number(score)


def unprefixed(metrics: Mapping[str, float], split: str) -> dict[str, float]:
    """The metrics of one split, without the split in their names."""
    start = f"{split}/"
    return {name.removeprefix(start): value for name, value in metrics.items() if name.startswith(start)}
