"""Annotations of predictions: read back by the data sets' own readers, they are the masks again."""

import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image

from segmentation.config import PolygonOptions
from segmentation.data import create_dataset
from segmentation.data.drawings import fill_polygon
from segmentation.inference.annotations import Album, Picture, find_regions, save_geojson, save_labelme
from segmentation.types import Classes

CLASSES = Classes(("background", "cat & dog", "<b>tree</b>"))
SIZE = (48, 64)


def masks() -> list[np.ndarray]:
    """Discs, rings with islands, neighbours of two classes, regions that meet at a corner, and nothing."""
    found = []
    for seed in range(5):
        random = np.random.default_rng(seed)
        mask = np.zeros(SIZE, np.uint8)
        for label in (1, 2, 1):
            centre = tuple(random.integers(8, 40, 2).tolist())
            cv2.circle(mask, centre, int(random.integers(6, 14)), label, -1)
            cv2.circle(mask, centre, int(random.integers(2, 5)), 0, -1)
            mask[centre[1] % SIZE[0], centre[0]] = 3 - label
        mask[40:44, 50:54], mask[44:48, 54:58] = 1, 1
        found.append(mask)
    found[-1][:] = 0
    return found


def written(folder: Path, kind: str, options: PolygonOptions) -> None:
    """The masks' pictures and annotations in a folder."""
    album = Album(CLASSES, {kind: folder / f"annotations.{'xml' if kind == 'cvat' else 'json'}"})  # type: ignore[dict-item]
    for number, mask in enumerate(masks()):
        source = folder / f"{number}.png"
        Image.fromarray(np.dstack([mask * 90] * 3)).save(source)
        picture = Picture(source.name, SIZE, find_regions(mask, CLASSES, options))
        if kind == "labelme":
            save_labelme(folder / f"{number}.json", source, picture, CLASSES)
        album.pictures.append(picture)
    album.save()


def read_back(folder: Path, kind: str) -> dict[str, np.ndarray]:
    dataset = create_dataset(
        name=kind, root=folder, fractions=[0.5, 0.25, 0.25], names=list(CLASSES.names[1:])
    )
    assert dataset.classes.names == CLASSES.names
    return {sample["name"]: sample["mask"] for split in dataset.splits().values() for sample in split}  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["coco", "cvat", "labelme"])
def test_read_back_they_are_the_masks(kind: str, tmp_path: Path) -> None:
    written(tmp_path, kind, PolygonOptions())
    found = read_back(tmp_path, kind)
    for number, mask in enumerate(masks()):
        assert np.array_equal(found[str(number)], mask), number


@pytest.mark.parametrize("kind", ["coco", "cvat", "labelme"])
def test_simplified_they_differ_at_the_borders_alone(kind: str, tmp_path: Path) -> None:
    written(tmp_path, kind, PolygonOptions(simplify=0.8))
    found = read_back(tmp_path, kind)
    for number, mask in enumerate(masks()):
        border = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
        assert not (found[str(number)] != mask)[~border].any()
        assert (found[str(number)] != mask).sum() <= 0.25 * max(1, border.sum())


def test_small_regions_go_and_holes_are_filled() -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[4:24, 4:24], mask[10:14, 10:14], mask[30:33, 30:33] = 1, 0, 2
    (ring,) = find_regions(mask, CLASSES, PolygonOptions(min_area=10))
    assert (ring.label, len(ring.holes), ring.bitmap()[0].sum()) == (1, 1, 400 - 16)
    (filled,) = find_regions(mask, CLASSES, PolygonOptions(min_area=10, fill_holes=17))
    assert (len(filled.holes), filled.bitmap()[0].sum()) == (0, 400)


def test_geojson_has_holes_and_closed_rings(tmp_path: Path) -> None:
    mask = masks()[1]
    picture = Picture("a.png", SIZE, find_regions(mask, CLASSES, PolygonOptions()))
    save_geojson(tmp_path / "a.geojson", picture, CLASSES)
    content = json.loads((tmp_path / "a.geojson").read_text())
    drawn = np.zeros(SIZE, np.uint8)
    for feature in sorted(content["features"], key=lambda each: -np.ptp(each["geometry"]["coordinates"][0])):
        assert feature["properties"]["class"] in CLASSES.names
        part = np.zeros(SIZE, np.uint8)
        for number, ring in enumerate(feature["geometry"]["coordinates"]):
            assert ring[0] == ring[-1]
            fill_polygon(part, np.array(ring[:-1]), int(number == 0))
        drawn[part > 0] = CLASSES.names.index(feature["properties"]["class"])
    assert np.array_equal(drawn, mask)


def test_names_are_escaped_in_xml(tmp_path: Path) -> None:
    written(tmp_path, "cvat", PolygonOptions())
    root = ElementTree.parse(tmp_path / "annotations.xml").getroot()
    assert [each.text for each in root.iterfind("meta/task/labels/label/name")] == list(CLASSES.names[1:])


def test_coco_is_what_pycocotools_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    written(tmp_path, "coco", PolygonOptions())
    judge = COCO(tmp_path / "annotations.json")
    capsys.readouterr()
    for image in judge.loadImgs(judge.getImgIds()):
        mask = masks()[int(image["file_name"].removesuffix(".png"))]
        areas = dict.fromkeys((1, 2), 0.0)
        for annotation in judge.loadAnns(judge.getAnnIds(image["id"])):
            areas[annotation["category_id"]] += annotation["area"]
        assert areas == {label: float((mask == label).sum()) for label in areas}
