"""All results of a folder -> `table.md`, `table.csv` and `speed.png`, written anew after every job."""

from pathlib import Path

from segmentation.benchmark.picture import draw
from segmentation.benchmark.row import read_rows
from segmentation.benchmark.table import comma_separated, markdown


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
