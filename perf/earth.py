"""A large scene with roofs as outlines: trained on, evaluated, and predicted into a GeoPackage; time and memory.

    python perf/earth.py
    python perf/earth.py --side 4000 --folder scene

The scene has four bands of 16 bits and a pixel of half a metre; it is made block by block, and kept where `--folder` is
given. Each command is a process of its own, whose peak memory is read from the system.
"""

import json
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measure import ROOT, markdown, options, parse, print_table

_BLOCK = 1024  # pixels, made at once
_CELL = 64  # pixels: the side of a plot, with one roof or none
_LEFT, _TOP, _SIDE, _CRS = 500_000.0, 5_400_000.0, 0.5, "EPSG:32633"
_GROUND, _ROOF = (420, 520, 380, 900), (900, 700, 620, 600)


def main() -> None:
    """Print the table."""
    parser = options(__doc__ or "", rounds=1)
    parser.add_argument("--side", type=int, default=20_000, help="pixels of the scene's side")
    parser.add_argument("--backbone", default="mobilenetv3_small")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="further options of train.py"
    )
    parser.add_argument("--folder", type=Path, help="keeps the scene and the results")
    args = parse(parser)
    with ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(TemporaryDirectory()))
        start = time.perf_counter()
        roofs = make_scene(folder, args.side)
        rows = [("make", time.perf_counter() - start, 0.0, f"{roofs} roofs"), *_commands(args, folder)]
    table = markdown(
        ["", "seconds", "peak memory, MB", "found"],
        [[what, f"{seconds:.0f}", f"{memory:.0f}", found] for what, seconds, memory, found in rows],
    )
    print_table(
        table, f"{args.side}x{args.side} pixels, 4 bands of 16 bits; {args.backbone}, {args.epochs} epoch(s)."
    )


def _commands(args: Namespace, folder: Path) -> list[tuple[str, float, float, str]]:
    scene, roofs, run = folder / "scene.tif", folder / "roofs.gpkg", folder / "run"
    data = (f"dataset.images={scene}", f"dataset.labels={roofs}")
    block = max(256, min(2048, args.side // 8 // 32 * 32))
    train = (
        "dataset=geotiff",
        *data,
        f"dataset.block={block}",
        f"dataset.buffer={min(512, block // 4)}",
        "data.channels=4",
        f"backbone={args.backbone}",
        f"trainer.max_epochs={args.epochs}",
        f"hydra.run.dir={run}",
        *args.set,
    )
    predict = ("min_area=4", "simplify=0.5", "save=[mask,polygons]")
    rows = [("train.py", *_measured("train.py", *train), "")]
    rows.append(
        (
            "evaluate.py, the test areas",
            *_measured("evaluate.py", f"checkpoint={run}", f"output={folder / 'evaluation'}"),
            _score(folder / "evaluation"),
        )
    )
    output = folder / "predicted"
    rows.append(
        (
            "predict.py, polygons",
            *_measured("predict.py", f"checkpoint={run}", f"input={scene}", f"output={output}", *predict),
            _count(output / "scene_polygons.gpkg"),
        )
    )
    return rows


def _measured(script: str, *arguments: str) -> tuple[float, float]:
    """Seconds, and the peak memory in MB, of a command."""
    start, peak = time.perf_counter(), 0.0
    process = subprocess.Popen([sys.executable, str(ROOT / script), *arguments], cwd=ROOT)
    while process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        peak = max([peak, *(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))])
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"{script} ended with {process.returncode}")
    return time.perf_counter() - start, peak


def _score(folder: Path) -> str:
    return f"IoU {json.loads((folder / 'report.json').read_text())['metrics']['test/iou']:.3f}"


def _count(path: Path) -> str:
    import pyogrio

    return f"{pyogrio.read_info(path)['features']} polygons"


def make_scene(folder: Path, side: int) -> int:
    """Writes scene.tif and roofs.gpkg into the folder; returns the number of roofs."""
    import pyogrio
    import rasterio.features
    import shapely
    from rasterio.windows import Window

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    corners_NP2 = _roofs(random, side)
    brightness_N = random.uniform(0.7, 1.3, len(corners_NP2))
    noise_HWC = random.normal(0, 40, (_BLOCK, _BLOCK, 4)).astype(np.float32)
    polygons = shapely.polygons(corners_NP2)
    tree = shapely.STRtree(polygons)
    profile = {
        "driver": "GTiff",
        "count": 4,
        "dtype": "uint16",
        "predictor": 2,
        "zlevel": 1,
        "width": side,
        "height": side,
        "crs": _CRS,
        "transform": rasterio.Affine(_SIDE, 0, _LEFT, 0, -_SIDE, _TOP),
        "tiled": True,
        "compress": "deflate",
        "bigtiff": "if_safer",
    }
    with rasterio.open(folder / "scene.tif", "w", **profile) as scene:
        for top in range(0, side, _BLOCK):
            for left in range(0, side, _BLOCK):
                window = Window(left, top, min(_BLOCK, side - left), min(_BLOCK, side - top))
                place = scene.window_transform(window)
                box = shapely.box(*scene.window_bounds(window))
                found = np.sort(tree.query(box))
                number_HW = rasterio.features.rasterize(
                    [(polygons[each], each + 1) for each in found.tolist()] or [(box, 0)],
                    (window.height, window.width),
                    transform=place,
                    dtype="int32",
                )
                roof_HW1 = (number_HW > 0)[..., None]
                light_HW1 = np.append(1.0, brightness_N)[number_HW][..., None]
                noise = np.roll(noise_HWC, (top // 7, left // 5), (0, 1))[: window.height, : window.width]
                pixels_HWC = np.where(roof_HW1, _ROOF, _GROUND) * light_HW1 + noise
                scene.write(pixels_HWC.clip(1, 2047).astype(np.uint16).transpose(2, 0, 1), window=window)
    pyogrio.raw.write(
        folder / "roofs.gpkg",
        shapely.to_wkb(polygons),
        [np.arange(len(polygons))],
        ["number"],
        geometry_type="Polygon",
        crs=_CRS,
    )
    return len(polygons)


def _roofs(random: np.random.Generator, side: int) -> np.ndarray:
    """The corners (N, 4, 2) of turned rectangles, x and y on the ground, one in about half of the plots."""
    rows, columns = np.nonzero(random.random((side // _CELL, side // _CELL)) < 0.5)
    half_N2, angle_N = random.uniform(8, 20, (len(rows), 2)), random.uniform(0, np.pi, len(rows))
    corners_NP2 = half_N2[:, None] * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    turn_N22 = np.stack([np.cos(angle_N), np.sin(angle_N), -np.sin(angle_N), np.cos(angle_N)], 1).reshape(
        -1, 2, 2
    )
    middle_N2 = np.stack([columns, rows], 1) * _CELL + _CELL / 2 + random.uniform(-2, 2, (len(rows), 2))
    pixels_NP2 = corners_NP2 @ turn_N22 + middle_N2[:, None]
    return np.array([_LEFT, _TOP]) + pixels_NP2 * np.array([_SIDE, -_SIDE])


if __name__ == "__main__":
    main()
