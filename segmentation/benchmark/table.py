"""Rows -> a Markdown table with all that is needed to take its numbers again, and a CSV."""

import csv
import io
from collections.abc import Mapping, Sequence

from segmentation.benchmark.row import Row


def markdown(rows: Sequence[Row], failures: Mapping[str, str]) -> str:
    """One table of all rows; a setting in which they differ is a column, the others stand below it.

    `failures` are reasons by the name of a job.
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
    """All of the rows in full precision, as a spreadsheet reads them."""
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
        f"Taken on {about['date'][:10]} on {about['device']}, with torch {about['torch']} and torchvision"
        f" {about['torchvision']}. Times are medians, with quartiles at most {max(row.spread for row in rows):.0%}"
        " of the median apart.",
        "Parameters and GFLOPs (one image, forward; a multiply-add is two) are of the whole model, head included."
        " Peak: what torch holds in a training step of the batch, weights and optimizer included.",
    ]
    scores = [row.score for row in rows if row.score]
    if scores:
        data = ", ".join(sorted({score["data"] for score in scores}))
        counts = sorted({score["runs"] for score in scores})
        runs = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        notes.append(f"mIoU: {scores[0]['metric']} on {data}, the mean of {runs} run(s) a model.")
    return ["  \n".join(notes), "", "```", about["command"], "```"]


def _failed(failures: Mapping[str, str]) -> list[str]:
    return (
        ["", "Not measured:", "", *(f"- {name}: {reason}" for name, reason in failures.items())]
        if failures
        else []
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
