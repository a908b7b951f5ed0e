"""The picture docs/polygons.png: the polygons that a trained model draws over a made town, beside the true outlines.

    python perf/roofs.py

Two towns are made, with gabled roofs, trees, streets and shadows. A small model is trained on one for a few minutes of
two processor cores; evaluate.py judges it on the other, and predict.py writes the polygons that the picture shows.
"""

import argparse
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
_PIXEL = 0.3  # metres
_TOWNS = {"a": ((640, 640), 1, 500_000.0), "b": ((280, 320), 0, 520_000.0)}
"""Height and width, seed, and the left side in metres."""
_TOP = 5_000_000.0
_ZOOM = 2  # pixels of the picture for one of the image
_YELLOW, _WHITE = (255, 220, 40), (255, 255, 255)
_TRAIN = (
    *("dataset=geotiff", "dataset.images=a.tif", "dataset.labels=a_mask.tif"),
    *("dataset.block=160", "dataset.buffer=32", "data.size=[128,128]", "data.batch_size=8", "data.workers=0"),
    *(
        "backbone=efficientnet_lite0",
        "weights=imagenet",
        "head=deeplabv3plus",
        "precision=32",
        "output_stride=16",
        "optimizer.lr=0.002",
    ),
    *(
        "trainer.accelerator=cpu",
        "callbacks.grid.images=0",
        "hydra.run.dir=run",
    ),
)
_POLYGONS = ("save=polygons", "min_area=8", "simplify=0.3", "fill_holes=4", "regularise=0.8")
_ROOFS = (
    (168, 92, 70),
    (186, 108, 82),
    (150, 78, 62),
    (128, 122, 120),
    (96, 98, 106),
    (196, 186, 172),
    (112, 74, 60),
)
_LIGHT = np.array([-0.6, -0.8])  # the direction from which the sun shines, x and y


def main() -> None:
    """Make the towns, train, judge and predict, and draw both outlines side by side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "polygons.png")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="keeps the towns and the results")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="further options of train.py"
    )
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for name in _TOWNS:
            _write_town(folder, name)
        validations = f"trainer.check_val_every_n_epoch={min(10, args.epochs)}"
        _run(folder, "train.py", *_TRAIN, f"trainer.max_epochs={args.epochs}", validations, *args.set)
        other = ("dataset.images=b.tif", "dataset.labels=b_mask.tif")
        _run(
            folder,
            "evaluate.py",
            "checkpoint=run",
            *other,
            "objects=true",
            "output=judged",
            "accelerator=cpu",
        )
        _run(
            folder, "predict.py", "checkpoint=run", "input=b.tif", "output=out", "accelerator=cpu", *_POLYGONS
        )
        image, mask = town(*_TOWNS["b"][0], seed=_TOWNS["b"][1])
        found, true = _polygons(folder / "out" / "b_polygons.gpkg"), _traced(mask)
        scores = json.loads((folder / "judged" / "report.json").read_text())["metrics"]
    panels = (
        drawn(image, found, "the model's polygons", _YELLOW),
        np.full((image.shape[0] * _ZOOM, 12, 3), 255, np.uint8),
        drawn(image, true, "the truth", _WHITE),
    )
    Image.fromarray(np.concatenate(panels, axis=1)).quantize(192).save(args.output, optimize=True)
    sys.stdout.write(
        f"{len(found)} polygons, {len(true)} true ones; IoU {scores['test/iou']:.3f}, F1 of objects"
        f" {scores['test/object_f1']:.3f}\n"
    )


def _run(folder: Path, script: str, *arguments: str) -> None:
    subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=folder, check=True)


def _write_town(folder: Path, name: str) -> None:
    """NAME.tif, and NAME_mask.tif with 0 and 255."""
    import rasterio

    (height, width), seed, left = _TOWNS[name]
    image, mask = town(height, width, seed)
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(_PIXEL, 0, left, 0, -_PIXEL, _TOP)}
    for file_name, values in ((f"{name}.tif", image.transpose(2, 0, 1)), (f"{name}_mask.tif", mask[None])):
        profile = {"height": height, "width": width, "count": len(values), "dtype": "uint8"}
        with rasterio.open(folder / file_name, "w", driver="GTiff", **place, **profile) as file:
            file.write(values)


def _polygons(path: Path) -> np.ndarray:
    """The polygons of a GeoPackage of town b, in pixels."""
    import pyogrio
    import shapely

    corner = np.array([_TOWNS["b"][2], _TOP])
    shapes = shapely.from_wkb(pyogrio.raw.read(path)[2])
    return shapely.transform(shapes, lambda points: (points - corner) * (1, -1) / _PIXEL)


def _traced(mask: np.ndarray) -> np.ndarray:
    from segmentation.inference.polygons import trace

    return trace(mask, background=True)[0]


def town(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 (H, W, 3) and its mask (H, W), 255 for roofs; drawn at twice the size and made smaller."""
    random = np.random.default_rng(seed)
    size = 2 * height, 2 * width
    ground = _noise(random, size, (4, 15, 60))
    image = np.array((112, 126, 78), np.float32) + ground[..., None] * (20, 16, 14)
    dry = _noise(random, size, (30, 90))[..., None]
    image += np.clip(dry - 0.6, 0, 1) * (40, 18, 12)
    mask = np.zeros(size, np.uint8)
    angle = random.uniform(-0.5, 0.5)
    middle = np.array(size[::-1]) / 2
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    block = 230
    reach = int(max(size) // block) + 1
    free = np.ones(size, np.uint8)
    for row in range(-reach, reach + 1):
        along = np.array([(-2000, row * block), (2000, row * block)]) @ axes + middle
        _line(image, along, 24, (118, 116, 116), random)
        cv2.line(free, *along.round().astype(int).tolist(), 0, 38)
    across = np.array([(random.uniform(-60, 60), -2000), (random.uniform(-60, 60), 2000)]) @ axes + middle
    _line(image, across, 24, (122, 120, 118), random)
    cv2.line(free, *across.round().astype(int).tolist(), 0, 38)
    shade = np.ones(size, np.float32)
    roofs = []
    for row in range(-reach, reach):
        for side in (0.3, 0.7):
            for column in range(-2 * reach, 2 * reach):
                spot = np.array(
                    [column * 100 + random.uniform(-9, 9), (row + side) * block + random.uniform(-5, 5)]
                )
                if random.random() < 0.92:
                    roofs.append(
                        (
                            spot @ axes + middle,
                            angle + random.choice([0, 0, np.pi / 2]) + random.normal(0, 0.05),
                        )
                    )
    placed = []
    for centre, turn in roofs:
        parts = _house(random, centre, turn)
        outline = np.zeros(size, np.uint8)
        for part in parts:
            cv2.fillPoly(outline, [part.round().astype(np.int32)], 1)
        if outline.any() and not (outline & (1 - free)).any():
            free &= 1 - cv2.dilate(outline, np.ones((7, 7), np.uint8))
            mask |= outline
            placed.append(parts)
    for step in range(1, 15):
        shift = np.float32([[1, 0, -_LIGHT[0] * step], [0, 1, -_LIGHT[1] * step]])
        moved = cv2.warpAffine(mask, shift, size[::-1])
        shade[(moved > 0)] = 0.5
    for centre in random.uniform(0, 1, (220, 2)) * size[::-1]:
        _tree(random, image, shade, free, centre)
    image *= cv2.GaussianBlur(shade, (0, 0), 1.2)[..., None]
    for parts in placed:
        colour = np.array(_ROOFS[random.integers(len(_ROOFS))]) * random.uniform(0.88, 1.12)
        for part in parts:
            _roof(random, image, part, colour)
    image += random.normal(0, 5, (*size, 1)) + random.normal(0, 2.5, (*size, 3))
    small = cv2.resize(image.clip(0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)
    share = cv2.resize(255 * mask, (width, height), interpolation=cv2.INTER_AREA)
    return small, (share > 127).astype(np.uint8) * 255


def _noise(random: np.random.Generator, size: tuple[int, int], scales: tuple[int, ...]) -> np.ndarray:
    """Soft blotches of several sizes in pixels, about -1..1."""
    total = np.zeros(size, np.float32)
    for scale in scales:
        coarse = random.standard_normal((size[0] // scale + 3, size[1] // scale + 3)).astype(np.float32)
        large = cv2.resize(coarse, (size[1] + 2 * scale, size[0] + 2 * scale), interpolation=cv2.INTER_CUBIC)
        total += large[: size[0], : size[1]] / len(scales) ** 0.5
    return total


def _line(
    image: np.ndarray, ends: np.ndarray, width: int, colour: tuple[int, int, int], random: np.random.Generator
) -> None:
    first, last = ends.round().astype(int).tolist()
    cv2.line(image, first, last, (176, 170, 160), width + 12)  # pavement
    cv2.line(image, first, last, colour, width)
    steps = np.linspace(ends[0], ends[1], 200)
    for start, stop in zip(steps[::2], steps[1::2], strict=True):
        cv2.line(image, *np.array([start, stop]).round().astype(int).tolist(), (214, 212, 206), 1)
    way = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    beside = np.array([-way[1], way[0]])
    for place in random.uniform(0, 4000, 60):  # parked cars
        centre = ends[0] + way * place + beside * random.choice([-8, 8])
        box = (tuple(centre), (14, 6), np.degrees(np.arctan2(way[1], way[0])))
        paint = tuple(
            float(part)
            for part in random.choice([(225, 225, 225), (60, 62, 70), (150, 40, 40), (60, 80, 130)])
        )
        cv2.fillPoly(image, [cv2.boxPoints(box).round().astype(np.int32)], paint)


def _house(random: np.random.Generator, centre: np.ndarray, turn: float) -> list[np.ndarray]:
    """The corners (4, 2) of a house, or of the two wings of an L."""
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    length, depth = random.uniform(58, 76), random.uniform(34, 42)
    box = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2
    parts = [box * (length, depth) @ axes + centre]
    if random.random() < 0.5:
        wing = box * (depth * 0.8, depth * 0.8) + (length / 2 - depth * 0.4, depth * 0.85)
        parts.insert(0, wing @ axes + centre)
    return parts


def _roof(random: np.random.Generator, image: np.ndarray, part: np.ndarray, colour: np.ndarray) -> None:
    """Two slopes, the one towards the sun brighter, with rows of tiles, a ridge and perhaps a chimney."""
    long = np.linalg.norm(part[1] - part[0]) >= np.linalg.norm(part[2] - part[1])
    a, b, c, d = part if long else np.roll(part, 1, axis=0)
    left, right = (a + d) / 2, (b + c) / 2
    for slope in (np.array([a, b, right, left]), np.array([left, right, c, d])):
        outward = slope.mean(axis=0) - part.mean(axis=0)
        light = 1 + 0.28 * float(outward @ _LIGHT) / np.linalg.norm(outward)
        cv2.fillPoly(image, [slope.round().astype(np.int32)], (colour * light).tolist(), cv2.LINE_AA)
        for share in np.arange(0.15, 1, 0.17):
            ends = (
                (1 - share) * slope[0] + share * slope[3],
                (1 - share) * slope[1] + share * slope[2],
            )
            corners = np.array(ends).round().astype(int).tolist()
            cv2.line(image, *corners, (colour * light * 0.93).tolist(), 1, cv2.LINE_AA)
    ridge = np.array([left, right]).round().astype(int).tolist()
    cv2.line(image, *ridge, (colour * 1.3).tolist(), 1, cv2.LINE_AA)
    if random.random() < 0.7:
        spot = left + (right - left) * random.uniform(0.2, 0.8) + random.normal(0, 2, 2)
        cv2.circle(image, (spot + 2).round().astype(int).tolist(), 3, (colour * 0.5).tolist(), -1)
        cv2.circle(image, spot.round().astype(int).tolist(), 3, (150, 84, 72), -1)


def _tree(
    random: np.random.Generator, image: np.ndarray, shade: np.ndarray, free: np.ndarray, centre: np.ndarray
) -> None:
    radius = random.uniform(6, 17)
    x, y = centre.astype(int)
    around = free[max(y - 12, 0) : y + 12, max(x - 12, 0) : x + 12]
    if not around.all():
        return
    cv2.circle(shade, (centre - _LIGHT * radius * 0.9).round().astype(int).tolist(), int(radius), 0.55, -1)
    green = np.array((58, 88, 46)) + random.normal(0, 9, 3)
    for _ in range(26):
        away = random.normal(0, 0.42, 2).clip(-0.9, 0.9)
        light = 1 + 0.4 * float(away @ _LIGHT)
        spot = (centre + away * radius).round().astype(int).tolist()
        cv2.circle(
            image, spot, max(int(radius * 0.34), 2), (green * light * random.uniform(0.85, 1.15)).tolist(), -1
        )
    cv2.circle(shade, centre.round().astype(int).tolist(), int(radius * 0.9), 1.0, -1)


def drawn(image: np.ndarray, polygons: np.ndarray, words: str, colour: tuple[int, int, int]) -> np.ndarray:
    """The enlarged image with polygons, in its pixels, over it, and `words` in a corner."""
    enlarged = cv2.resize(image, None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_CUBIC)
    page = Image.fromarray(enlarged).convert("RGBA")
    smooth = 3  # drawn larger, for smooth lines
    layer = Image.new("RGBA", (page.width * smooth, page.height * smooth), (*colour, 0))
    pen = ImageDraw.Draw(layer)
    for polygon in polygons:
        corners = np.array(polygon.exterior.coords) * _ZOOM * smooth
        points = [(float(x), float(y)) for x, y in corners]
        pen.polygon(points, fill=(*colour, 36))
        pen.line([*points, points[1]], fill=(*colour, 255), width=2 * smooth, joint="curve")
    page.alpha_composite(layer.resize(page.size, Image.Resampling.LANCZOS))
    pen = ImageDraw.Draw(page, "RGBA")
    font = ImageFont.load_default(18)
    corner = (18, page.height - 36)
    left, top, right, bottom = pen.textbbox(corner, words, font=font)
    pen.rounded_rectangle((left - 9, top - 7, right + 9, bottom + 7), 7, fill=(0, 0, 0, 190))
    pen.text(corner, words, font=font, fill=(255, 255, 255, 255))
    return np.asarray(page.convert("RGB"))


if __name__ == "__main__":
    main()
