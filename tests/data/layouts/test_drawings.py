"""Drawn shapes against independent renderers: pycocotools for COCO, Pillow for the others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_data import image, save
from PIL import Image, ImageDraw
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from scipy.ndimage import binary_dilation

from segmentation.data import create_dataset
from segmentation.data.drawings import Shapes, fill_polygon
from segmentation.data.run_lengths import bitmap_runs, coco_runs

# Of pycocotools 2.0 with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SIZE = (120, 160)
RNG = np.random.default_rng(0)


def star(radius: float) -> np.ndarray:
    """A polygon with 3 to 29 corners, some of them outside the image."""
    angles = np.sort(RNG.uniform(0, 2 * np.pi, RNG.integers(3, 30)))
    corners = np.stack([np.cos(angles), np.sin(angles)], 1) * radius * RNG.uniform(0.5, 1, (len(angles), 1))
    return np.round(corners + RNG.uniform((-5, -5), (165, 125)), 2)


def drawn(points: np.ndarray) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    fill_polygon(mask, points, 1)
    return mask


def by_pycocotools(points: np.ndarray) -> np.ndarray:
    return coco_masks.decode(coco_masks.frPyObjects([points.ravel().tolist()], *SIZE))[..., 0]


def by_pillow(points: np.ndarray) -> np.ndarray:
    """Pillow's coordinates are those of pixels' centres."""
    picture = Image.new("L", SIZE[::-1])
    ImageDraw.Draw(picture).polygon([(x - 0.5, y - 0.5) for x, y in points.tolist()], fill=1)
    return np.asarray(picture)


def outline(points: np.ndarray) -> np.ndarray:
    """The pixels that the outline passes, and their neighbours."""
    picture = Image.new("L", SIZE[::-1])
    corners = [(x - 0.5, y - 0.5) for x, y in [*points.tolist(), points[0].tolist()]]
    ImageDraw.Draw(picture).line(corners, fill=1)
    return binary_dilation(np.asarray(picture), np.ones((3, 3)))


# Measured, of the pixels around the shapes: 5.8 % differ from pycocotools, with a bias of 0.2 %. Pillow also fills what
# the outline touches: 57 % differ, and its shapes are larger by 34 % of these pixels.
@pytest.mark.parametrize(
    ("renderer", "share", "bias"),
    [(by_pycocotools, 0.08, 0.02), (by_pillow, 0.65, 0.4)],
    ids=["coco", "pillow"],
)
def test_only_pixels_of_the_boundary_differ(renderer: Any, share: float, bias: float) -> None:
    boundary = differing = more = 0
    for radius in (3, 10, 40, 100):
        for _ in range(60):
            points = star(radius)
            ours, theirs = drawn(points), renderer(points)
            different = ours != theirs
            assert not (different & ~outline(points)).any()
            boundary += np.count_nonzero(binary_dilation(theirs) ^ theirs)
            differing += np.count_nonzero(different)
            more += int(theirs.sum()) - int(ours.sum())
    assert differing < share * boundary, (differing, boundary)
    assert abs(more) < bias * boundary, (more, boundary)


def test_neighbours_share_no_pixel_and_leave_none() -> None:
    """Cut in two along any line, a polygon is the sum of its parts."""
    for _ in range(50):
        (x, y), (x2, y2) = RNG.uniform(0, 120, (2, 2))
        one = drawn(np.array([[0, 0], [x, 0], [x, y], [x2, y2], [x2, 120], [0, 120]]))
        other = drawn(np.array([[160, 0], [x, 0], [x, y], [x2, y2], [x2, 120], [160, 120]]))
        np.testing.assert_array_equal(one + other, 1)


def test_whole_coordinates_are_exact() -> None:
    expected = np.zeros(SIZE, np.uint8)
    expected[3:20, 5:9] = 1
    np.testing.assert_array_equal(drawn(np.array([[5, 3], [9, 3], [9, 20], [5, 20]])), expected)
    assert not drawn(np.array([[-9, -3], [-1, -3], [-1, 200]])).any()
    assert not drawn(np.array([[5, 5], [5, 5], [5, 5]])).any()
    assert drawn(np.array([[-1e6, -1e6], [1e6, -1e6], [1e6, 1e6], [-1e6, 1e6]])).all()


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (64, 80), (300, 500)])
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 1])
def test_run_lengths_are_those_of_pycocotools(shape: tuple[int, int], share: float) -> None:
    bitmap = RNG.random(shape) < share
    text = coco_masks.encode(np.asfortranarray(bitmap.astype(np.uint8)))["counts"].decode()
    height, width = shape
    shapes = Shapes()
    shapes.add_region(0, "a", coco_runs(text), (0, 0, width, height), columns=True)
    shapes.add_region(1, "a", bitmap_runs(bitmap), (0, 0, width, height))
    drawings = shapes.drawings(Path("a"), np.zeros((2, 2), int), {"a": 1}, 0)
    for index in (0, 1):
        np.testing.assert_array_equal(drawings.mask(index, shape), bitmap)


@pytest.mark.parametrize("box", [(-3, -2, 10, 8), (150, 110, 30, 40), (200, 0, 5, 5), (0, -9, 4, 3)])
def test_regions_are_clipped(box: tuple[int, int, int, int]) -> None:
    left, top, width, height = box
    shapes = Shapes()
    shapes.add_region(0, "a", np.array([0, width * height]), box)
    expected = np.zeros(SIZE, np.uint8)
    expected[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = 1
    mask = shapes.drawings(Path("a"), np.zeros((1, 2), int), {"a": 1}, 0).mask(0, SIZE)
    np.testing.assert_array_equal(mask, expected)


def test_a_data_set_of_coco(tmp_path: Path) -> None:
    """Polygons, compressed and plain run lengths, crowds and gaps in the ids, painted by pycocotools in our order."""
    images, annotations = [], []
    for number in range(6):
        save(tmp_path / f"p{number}.png", image(*SIZE))
        images.append({"id": 7 * number, "file_name": f"p{number}.png", "height": SIZE[0], "width": SIZE[1]})
        for _ in range(8):
            kind, crowd = RNG.integers(3), int(RNG.random() < 0.2)
            segmentation: Any = [star(RNG.uniform(5, 60)).ravel().tolist() for _ in range(RNG.integers(1, 3))]
            if kind or crowd:
                region = coco_masks.encode(np.asfortranarray(drawn(star(40))))
                plain = np.diff(
                    [0, *np.flatnonzero(np.diff(drawn(star(30)).T.ravel())) + 1, SIZE[0] * SIZE[1]]
                )
                counts = region["counts"].decode() if kind == 1 else plain.tolist()
                segmentation = {"size": list(SIZE), "counts": counts}
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": 7 * number,
                    "category_id": int(RNG.choice([3, 8])),
                    "iscrowd": crowd,
                    "segmentation": segmentation,
                    "area": 1.0,
                    "bbox": [0, 0, 1, 1],
                }
            )
    categories = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    reference = COCO(str(path))
    dataset = create_dataset(name="coco", root=str(tmp_path))
    compared = 0
    for samples in dataset.splits().values():
        for sample in samples:
            identity = 7 * int(sample["name"][-1])
            items = reference.loadAnns(reference.getAnnIds(identity))
            expected = np.zeros(SIZE, np.uint8)
            boundary = np.zeros(SIZE, bool)
            masks = [(_exact_area(item), reference.annToMask(item), item) for item in items]
            for _, mask, item in sorted(masks, key=lambda each: -each[0]):
                expected[mask > 0] = 255 if item["iscrowd"] else (1 if item["category_id"] == 3 else 2)
                if isinstance(item["segmentation"], list):
                    for ring in item["segmentation"]:
                        boundary |= outline(np.reshape(ring, (-1, 2)))
            assert not ((sample["mask"] != expected) & ~boundary).any()
            compared += np.count_nonzero(sample["mask"] == expected)
    assert compared > 0.99 * 6 * SIZE[0] * SIZE[1]


def _exact_area(item: dict[str, Any]) -> float:
    """The area that decides which shape lies over which: of the rings, or of the pixels."""
    if not isinstance(item["segmentation"], list):
        counts = item["segmentation"]["counts"]
        return (
            float(sum(counts[1::2]))
            if isinstance(counts, list)
            else float(coco_masks.area(item["segmentation"]))
        )
    rings = [np.reshape(ring, (-1, 2)) for ring in item["segmentation"]]
    return sum(map(_shoelace, rings))


def _shoelace(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2


def test_a_million_points_take_few_bytes_and_are_shared_by_the_splits() -> None:
    shapes = Shapes(["a"])
    ring = star(30)
    for number in range(20_000):
        shapes.add_polygons(number // 10, "a", [ring])
    drawings = shapes.drawings(Path("a"), np.zeros((2000, 2), int), {"a": 1}, 0)
    arrays = [drawings.shapes, drawings.ranges, drawings.points, drawings.runs]
    assert sum(part.nbytes for part in arrays) < 20_000 * (8 * len(ring) + 20)
    part = drawings.take(np.arange(0, 2000, 2))
    assert part.points is drawings.points
    assert part.shapes is drawings.shapes
    np.testing.assert_array_equal(part.mask(3, SIZE), drawings.mask(6, SIZE))
