"""All results of a folder -> `table.md`, `table.csv` and `speed.png`, written anew after every job."""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# MERGED FROM benchmark/row: `result.json` -> what a table and a picture show of it.
# MERGED FROM benchmark/table: Rows -> a Markdown table with all that is needed to take its numbers again, and a CSV
# MERGED FROM benchmark/labels: Where the names of points stand so that they can be read.
# MERGED FROM benchmark/picture: `speed.png`: which models are fast for their size, and for their mIoU where it is k

RESULT = "result.json"
"""The file that a job leaves in its folder."""


@dataclass(frozen=True)
class Row:
    """One model. `settings` is what may differ between the rows of a table, by the name of its column."""

    backbone: str
    settings: dict[str, str]
    batch_size: int
    parameters: int
    flops: int
    train_rate: float  # images a second, by batches
    infer_rate: float
    latency_ms: float  # of the inference of one image
    peak_bytes: int  # of a training step
    spread: float  # quartiles' distance to their median, of the measurement where it is largest
    score: Mapping[str, Any] | None
    environment: Mapping[str, Any]


def read_rows(folder: Path) -> list[Row]:
    """The results in the folder itself and in its jobs' folders, the fastest in prediction first."""
    paths = sorted([*folder.glob(RESULT), *folder.glob(f"*/{RESULT}")])
    return sorted((_row(json.loads(path.read_text())) for path in paths), key=lambda row: -row.infer_rate)


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


_DIRECTIONS = 24
_RINGS = 16


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    @property
    def area(self) -> float:
        """In square pixels."""
        return (self.right - self.left) * (self.top - self.bottom)

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float) -> "Box":
        """The box of this size about a centre."""
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def place(
    points: Sequence[tuple[float, float]],
    radii: Sequence[float],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
) -> list[Box]:
    """A box for each point's label (width, height), in the frame and free of the other labels and the points.

    The nearest free place is taken, ring by ring; where there is none, that with the least in its way.
    Points are circles of these radii. All in pixels.
    """
    circles = [Box.around(x, y, 2 * radius, 2 * radius) for (x, y), radius in zip(points, radii, strict=True)]
    placed: dict[int, Box] = {}
    # The most crowded first: the others can give way.
    for index in sorted(range(len(points)), key=lambda index: _crowd(points, index)):
        taken = [*circles, *placed.values()]
        candidates = _candidates(points[index], radii[index], sizes[index])
        placed[index] = _freest(candidates, taken, frame)
    return [placed[index] for index in range(len(points))]


def _freest(candidates: Iterable[Box], taken: Sequence[Box], frame: Box) -> Box:
    best, least = None, math.inf
    for box in candidates:
        hidden = sum(map(box.overlap, taken)) + 10 * (box.area - box.overlap(frame))
        if best is None or hidden < least:
            best, least = box, hidden
        if least < 1e-6:
            break
    assert best is not None
    return best


def _candidates(point: tuple[float, float], radius: float, size: tuple[float, float]) -> Iterator[Box]:
    (x, y), (width, height) = point, size
    for ring in range(_RINGS):
        distance = radius + 2 + ring * height / 2
        for direction in range(_DIRECTIONS):
            angle = 2 * math.pi * direction / _DIRECTIONS
            # The label's near edge, not its centre, is at this distance.
            across = (distance + width / 2) * math.cos(angle)
            up = (distance + height / 2) * math.sin(angle)
            yield Box.around(x + across, y + up, width, height)


def _crowd(points: Sequence[tuple[float, float]], index: int) -> float:
    """The less, the nearer the other points are."""
    return -sum(1 / (1 + math.dist(points[index], other)) for other in points)


_COLOURS = ("#4477aa", "#cc6677", "#228833", "#ccbb44", "#aa3377", "#66ccee", "#777777")
_LABEL_POINTS = 8.5


def draw(rows: Sequence[Row], picture: Path) -> None:
    """The figure as a PNG."""
    speed_figure(rows).savefig(picture)


def speed_figure(rows: Sequence[Row]) -> "Figure":
    """A bubble a model: images a second against parameters, and mIoU against images a second where it is known.

    A bubble's area is its operations; colours tell heads apart where there are several.
    """
    # Imported here: half a second. No pyplot: it wants a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scored = [row for row in rows if row.score]
    figure = Figure(figsize=(20 if scored else 11, 8), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if scored else 1, squeeze=False)[0]
    rate = "images/s in prediction, by batches"
    by_size = [(row.parameters / 1e6, row.infer_rate) for row in rows]
    _scatter(panels[0], rows, by_size, rows)
    panels[0].set(xscale="log", yscale="log", xlabel="parameters, millions", ylabel=rate)
    scores = [row.score for row in rows if row.score]
    by_score = [(row.infer_rate, score["mean"]) for row, score in zip(scored, scores, strict=True)]
    if scored:
        _scatter(panels[1], scored, by_score, rows)
        panels[1].set(xscale="log", xlabel=rate, ylabel=f"mIoU ({scores[0]['metric']})")
    for axes in panels:
        _finish(axes)
    # Labels are placed in pixels, which the layout settles.
    canvas.draw()
    figure.set_layout_engine("none")
    for axes, shown, points in zip(panels, (rows, scored), (by_size, by_score), strict=False):
        _label(axes, shown, points, rows)
    return figure


def _scatter(
    axes: "Axes", shown: Sequence[Row], points: Sequence[tuple[float, float]], rows: Sequence[Row]
) -> None:
    heads = list(dict.fromkeys(row.settings["head"] for row in rows))
    for index, head in enumerate(heads):
        of_head = [
            (point, _diameter(row, rows) ** 2)
            for row, point in zip(shown, points, strict=True)
            if row.settings["head"] == head
        ]
        if of_head:
            (across, up), areas = (
                zip(*(point for point, _ in of_head), strict=True),
                [area for _, area in of_head],
            )
            colour = _COLOURS[index % len(_COLOURS)]
            axes.scatter(across, up, s=areas, color=colour, alpha=0.55, linewidths=0, label=head)
    if len(heads) > 1:
        legend = axes.legend(title="head")
        for handle in legend.legend_handles:
            handle.set_sizes([80])  # large bubbles would overlap


def _finish(axes: "Axes") -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
    axes.set_title("area: operations of a forward pass", fontsize=_LABEL_POINTS, loc="left")
    axes.grid(alpha=0.3)
    axes.margins(0.1)


def _title(row: Row, rows: Sequence[Row]) -> str:
    """The backbone, and what sets the row apart from others with the same one; the head is a colour."""
    namesakes = [other for other in rows if other.backbone == row.backbone]
    return " ".join(
        [row.backbone, *(row.settings[name] for name in varying_settings(namesakes) if name != "head")]
    )


def _label(
    axes: "Axes", shown: Sequence[Row], points: Sequence[tuple[float, float]], rows: Sequence[Row]
) -> None:
    pixels = axes.figure.dpi / 72
    at = [(float(x), float(y)) for x, y in axes.transData.transform(points)]
    radii = [_diameter(row, rows) / 2 * pixels for row in shown]
    texts = [
        axes.annotate(
            _title(row, rows),
            at[index],
            xycoords="figure pixels",
            fontsize=_LABEL_POINTS,
            ha="center",
            va="center",
        )
        for index, row in enumerate(shown)
    ]
    extents = [text.get_window_extent() for text in texts]
    sizes = [(extent.width + 2 * pixels, extent.height + pixels) for extent in extents]
    frame = Box(*axes.bbox.extents)
    for text, box, (x, y), radius in zip(texts, place(at, radii, sizes, frame), at, radii, strict=True):
        centre = ((box.left + box.right) / 2, (box.bottom + box.top) / 2)
        text.set_position(centre)
        nearest = (min(max(x, box.left), box.right), min(max(y, box.bottom), box.top))
        if math.dist(nearest, (x, y)) > radius + 4 * pixels:
            axes.annotate(
                "",
                (x, y),
                nearest,
                xycoords="figure pixels",
                textcoords="figure pixels",
                arrowprops={
                    "arrowstyle": "-",
                    "color": "#999999",
                    "linewidth": 0.6,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )


def _diameter(row: Row, rows: Sequence[Row]) -> float:
    """In points; the area is in proportion to the operations, down to what can still be seen."""
    return max(5.0, 26.0 * math.sqrt(row.flops / max(other.flops for other in rows)))


def gather(folder: Path) -> str:
    """Puts the results in `folder` and in its jobs' folders together; the text is for the console.

    Jobs that failed stand below the table with their reason. Nothing is written where there is no result yet.
    """
    rows = read_rows(folder)
    if not rows:
        return ""
    errors = sorted(folder.glob("*/error.txt"))
    text = markdown(rows, {path.parent.name: path.read_text().splitlines()[-1] for path in errors})
    (folder / "table.md").write_text(text)
    (folder / "table.csv").write_text(comma_separated(rows))
    draw(rows, folder / "speed.png")
    return f"\n{text}\nIn {folder}: table.md, table.csv, speed.png"
