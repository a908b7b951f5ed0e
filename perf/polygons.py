"""Polygons of a mask as predict.py writes them: time and memory, and whether none is lost.

    python perf/polygons.py
    python perf/polygons.py --side 20000 --buildings 80000

The mask is of turned rectangles, one band of 8 bits as predict.py writes it. Each way is timed, by the processor, in a
process of its own; its peak memory is given beside what it had before it began.
"""

import json
import subprocess
import sys
import time
from argparse import SUPPRESS
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from doctor import peak_memory
from measure import options, parse, print_table

_WAYS: dict[str, dict[str, Any]] = {
    "as traced": {},
    "simplify=0.5": {"min_area": 4, "simplify": 0.5},
    "simplify=0.5 fill_holes=2 regularise=0.8": {
        "min_area": 4,
        "simplify": 0.5,
        "fill_holes": 2,
        "regularise": 0.8,
    },
    "simplify=0.5 polygons_format=geojson": {"simplify": 0.5, "format": "geojson"},
}
_PIXEL = 0.46  # metres


def main() -> None:
    """Print the table."""
    parser = options(__doc__ or "", rounds=1)
    parser.add_argument("--side", type=int, default=10_000, help="pixels: the side of the mask")
    parser.add_argument("--buildings", type=int, default=20_000)
    parser.add_argument("--write", nargs=2, help=SUPPRESS)  # what the process of its own is started with
    parser.set_defaults(threads=1)
    if "--write" in sys.argv:
        folder, way = parser.parse_args().write
        print(json.dumps(_write(Path(folder), _WAYS[way])))
        return
    args = parse(parser)
    lines = []
    with TemporaryDirectory() as folder:
        count = _make(Path(folder), args.side, args.buildings)
        for way in _WAYS:
            done = subprocess.run(
                [sys.executable, __file__, "--write", folder, way], capture_output=True, text=True, check=True
            )
            seconds, before, peak, size, found = json.loads(done.stdout)
            lines.append(
                f"| {way} | {seconds:.0f} s | {peak - before:.0f} MB | {size:.1f} MB | {found} of {count} |"
            )
    head = "| options | processor time | peak memory, beside that of the imports | file | polygons |"
    print_table(
        "\n".join([head, "| --- | --- | --- | --- | --- |", *lines]),
        f"Mask of {args.side}x{args.side} pixels with {count} buildings.",
    )


def _make(folder: Path, side: int, buildings: int) -> int:
    """Writes mask.tif and confidence.tif, of noise, and returns the number of buildings."""
    import cv2
    import rasterio

    random = np.random.default_rng(0)
    mask = np.zeros((side, side), np.uint8)
    across = round(buildings**0.5)
    step = side / across
    for row in range(across):
        for column in range(across):
            box = (
                ((column + 0.5) * step, (row + 0.5) * step),
                random.uniform(0.25, 0.6, 2) * step,
                random.uniform(0, 90),
            )
            cv2.fillPoly(mask, [cv2.boxPoints(box).round().astype(np.int32)], 255)
    profile = {
        "driver": "GTiff", "height": side, "width": side, "count": 1, "tiled": True, "compress": "deflate",
        "crs": "EPSG:32632", "transform": rasterio.Affine(_PIXEL, 0, 400000, 0, -_PIXEL, 5000000),
    }  # fmt: skip
    with rasterio.open(folder / "mask.tif", "w", dtype="uint8", **profile) as file:
        file.write(mask, 1)
    with rasterio.open(folder / "confidence.tif", "w", dtype="uint16", **profile) as file:
        for _, window in file.block_windows(1):
            shape = (window.height, window.width)
            file.write(random.integers(40_000, 65_536, shape, np.uint16), 1, window=window)
    return across**2


def _write(folder: Path, options: dict[str, Any]) -> tuple[float, float, float, float, int]:
    """Seconds of the processor, memory before and at its peak in MB, the file's size in MB, and its polygons."""
    import pyogrio
    import rasterio
    import shapely  # noqa: F401 - an import, whose memory does not count

    from segmentation.config import PolygonOptions
    from segmentation.inference.polygons import Place, write_polygons
    from segmentation.types import Classes

    chosen = PolygonOptions(**options)
    path = folder / f"scene_polygons.{chosen.format}"
    with rasterio.Env(GDAL_CACHEMAX=64 * 2**20):  # as in predict.py
        with rasterio.open(folder / "mask.tif") as file:
            place = Place.of(file, path)
        scratch = folder / "scratch"
        scratch.mkdir(exist_ok=True)
        before, start = peak_memory(), time.process_time()
        classes = Classes(("background", "building"), binary=True)
        write_polygons(
            path, folder / "mask.tif", folder / "confidence.tif", place, classes, chosen, scratch=scratch
        )
    seconds, peak = time.process_time() - start, peak_memory()
    return seconds, before, peak, path.stat().st_size / 1e6, pyogrio.read_info(path)["features"]


if __name__ == "__main__":
    main()
