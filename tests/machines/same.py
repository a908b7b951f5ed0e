"""Are two runs the same? `python same.py RUN OTHER`: counts and scores exactly, losses to 1e-5.

Exit status 1 and a line for each difference where they are not.
"""

import csv
import json
import math
import sys
from pathlib import Path

LOSS = 1e-5


def main(one: Path, other: Path) -> None:
    """Compares report.json and metrics.csv of two run folders."""
    reports = [json.loads((folder / "report.json").read_text()) for folder in (one, other)]
    first, second = reports
    different = [key for key in ("per_class", "data", "model") if first[key] != second[key]]
    rows = [rows_of(folder) for folder in (one, other)]
    if len(rows[0]) != len(rows[1]):
        different.append(f"epochs: {len(rows[0])} and {len(rows[1])}")
    largest = 0.0
    for row, its in zip(*rows, strict=False):
        for name in row.keys() | its.keys():
            a, b = row.get(name, math.nan), its.get(name, math.nan)
            if name.endswith("images_per_second") or (math.isnan(a) and math.isnan(b)):
                continue
            if name.endswith("loss"):
                largest = max(largest, abs(a - b))
            if not math.isclose(a, b, rel_tol=LOSS if name.endswith("loss") else 0):
                different.append(f"epoch {row['epoch']:.0f}, {name}: {a} and {b}")
    if different:
        sys.exit("different: " + "\n  ".join(different))
    processes = [report["environment"]["processes"] for report in reports]
    sys.stdout.write(
        f"  the same: {processes[0]} and {processes[1]} processes, {len(rows[0])} epochs, test/miou"
        f" {first['metrics']['test/miou']!r}, losses to {largest:.1e}\n"
    )


def rows_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(file)]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"There should be two run folders, and there are {len(sys.argv) - 1}: {sys.argv[1:]}")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
