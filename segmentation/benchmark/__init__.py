"""Benchmarks of models: parameters, operations, memory and time, in one table for many models."""

from pathlib import Path

from segmentation.benchmark.measure import benchmark
from segmentation.benchmark.plot import draw
from segmentation.benchmark.results import comma_separated, markdown, read_rows
from segmentation.reading import last_line
from segmentation.writing import write_text

__all__ = ["benchmark", "gather"]


def gather(folder: Path) -> str:
    """Write `table.md`, `table.csv` and `speed.png` for all results in `folder`, and return the text for the console.

    Called after every job of a sweep. Failed jobs are listed below the table with their reason. Without any result
    nothing is written.
    """
    rows = read_rows(folder)
    if not rows:
        return ""
    errors = sorted(folder.glob("*/error.txt"))
    text = markdown(rows, {path.parent.name: last_line(path) for path in errors})
    write_text(folder / "table.md", text)
    write_text(folder / "table.csv", comma_separated(rows))
    draw(rows, folder / "speed.png")
    return f"\n{text}\nIn {folder}: table.md, table.csv, speed.png"
