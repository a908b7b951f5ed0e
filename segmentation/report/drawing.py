"""Charts as the page's templates draw them: places in a picture of 340 x 318."""

from typing import Any

from segmentation.report.charts import Chart

_LEFT, _TOP, _WIDTH, _HEIGHT = 50, 10, 280, 260
"""Where the unit square lies in a chart of the page."""


def drawn(chart: Chart) -> dict[str, Any]:
    """A chart with its places in the drawing."""
    return {
        "title": chart.title,
        "caption": chart.caption,
        "x": chart.x,
        "y": chart.y,
        "diagonal": chart.diagonal,
        "lines": [
            {
                "index": line.index,
                "label": line.label,
                "colour": line.colour,
                "points": " ".join(f"{x:g},{y:g}" for x, y in map(_place, line.points)),
            }
            for line in chart.lines
        ],
        "dots": [_place(point) for line in chart.lines if chart.bars for point in line.points],
        "bars": [_bar(*bar) for bar in chart.bars],
    }


def _place(point: tuple[float, float]) -> tuple[float, float]:
    x, y = point
    return round(_LEFT + _WIDTH * x, 1), round(_TOP + _HEIGHT * (1 - y), 1)


def _bar(left: float, right: float, height: float) -> dict[str, Any]:
    (x, y), (end, _) = _place((left, height)), _place((right, height))
    text = f"{left:.2f} to {right:.2f}: {height:.1%} of the pixels"
    return {
        "x": x,
        "y": y,
        "width": round(end - x - 1, 1),
        "height": round(_TOP + _HEIGHT - y, 1),
        "text": text,
    }


TICKS = [
    {"x": x, "y": y, "text": f"{share:g}"}
    for share in (0, 0.25, 0.5, 0.75, 1)
    for x, y in [_place((share, share))]
]
"""The rules of a chart."""
