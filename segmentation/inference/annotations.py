"""Predictions as annotations that labelling tools open again: labelme, CVAT, COCO, and GeoJSON in pixels.

Regions become polygons, those with holes become bitmaps where a format has no holes. Coordinates are in pixels of the
picture, (column, row) from its upper left corner.
"""

import base64
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from segmentation.config import PolygonOptions
from segmentation.data.drawings import fill_polygon
from segmentation.data.run_lengths import bitmap_runs
from segmentation.inference.outputs import OutputPaths, written_whole
from segmentation.inference.polygons import in_pixels
from segmentation.types import Classes, hexadecimal

_DECIMALS = 2  # of coordinates: a hundredth of a pixel


class Region(NamedTuple):
    """A connected region of one class: its outline (N, 2), and those of its holes, in pixels."""

    label: int
    outline: np.ndarray
    holes: tuple[np.ndarray, ...]

    def bitmap(self) -> tuple[np.ndarray, int, int]:
        """bool (H, W) of the box around it, and the box's left and top."""
        left, top = np.floor(self.outline.min(axis=0)).astype(int).tolist()
        right, bottom = np.ceil(self.outline.max(axis=0)).astype(int).tolist()
        filled = np.zeros((bottom - top, right - left), np.uint8)
        fill_polygon(filled, self.outline - (left, top), 1)
        for hole in self.holes:
            fill_polygon(filled, hole - (left, top), 0)
        return filled > 0, left, top


class Picture(NamedTuple):
    """The regions of one picture; `name` is its path in the input, with slashes."""

    name: str
    size: tuple[int, int]
    regions: list[Region]


def find_regions(labels_HW: np.ndarray, classes: Classes, options: PolygonOptions) -> list[Region]:
    """The regions of uint8 labels, by class and from the top; areas and the tolerance of the options are in pixels."""
    polygons, labels = in_pixels(labels_HW, classes, options)
    return [
        Region(
            int(label),
            np.array(polygon.exterior.coords)[:-1],
            tuple(np.array(hole.coords)[:-1] for hole in polygon.interiors),
        )
        for polygon, label in zip(polygons, labels, strict=True)
    ]


def save_labelme(path: Path, source: Path, picture: Picture, classes: Classes) -> None:
    """labelme's JSON, which names the picture `source` as seen from the file."""
    height, width = picture.size
    shared: dict[str, Any] = {"group_id": None, "description": "", "flags": {}}
    shapes = [
        {"label": classes.names[region.label], **_labelme_shape(region), **shared}
        for region in picture.regions
    ]
    content: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(os.path.relpath(source.resolve(), path.parent.resolve())).as_posix(),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    _write_json(path, content)


def _labelme_shape(region: Region) -> dict[str, Any]:
    if not region.holes:
        return {"shape_type": "polygon", "points": _rounded(region.outline), "mask": None}
    bitmap, left, top = region.bitmap()
    height, width = bitmap.shape
    file = io.BytesIO()
    Image.fromarray(bitmap).save(file, "PNG")
    corners = [[left, top], [left + width - 1, top + height - 1]]
    return {"shape_type": "mask", "points": corners, "mask": base64.b64encode(file.getvalue()).decode()}


def save_geojson(path: Path, picture: Picture, classes: Classes) -> None:
    """A feature for each region, with its class; coordinates are pixels, rows count downwards."""
    features = [
        {
            "type": "Feature",
            "properties": {"class": classes.names[region.label]},
            "geometry": {
                "type": "Polygon",
                "coordinates": [_closed(ring) for ring in (region.outline, *region.holes)],
            },
        }
        for region in picture.regions
    ]
    _write_json(path, {"type": "FeatureCollection", "features": features})


@dataclass
class Album:
    """The pictures of one run, for the formats that have one file for all of them, whose `paths` are given."""

    classes: Classes
    paths: OutputPaths
    pictures: list[Picture] = field(default_factory=list)

    def save(self) -> None:
        """Write the files. Raises `UserError` where the disk has no room."""
        if "coco" in self.paths:
            self.save_coco(self.paths["coco"])
        if "cvat" in self.paths:
            self.save_cvat(self.paths["cvat"])

    def save_coco(self, path: Path) -> None:
        """COCO's instances: polygons, and run lengths of regions with holes."""
        shift = 1 if 0 in self.classes.foreground else 0  # ids begin at 1
        categories = [
            {"id": label + shift, "name": self.classes.names[label], "supercategory": ""}
            for label in self.classes.foreground
        ]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, picture in enumerate(self.pictures, 1):
            height, width = picture.size
            images.append({"id": number, "file_name": picture.name, "height": height, "width": width})
            for region in picture.regions:
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": region.label + shift,
                }
                annotations.append(annotation | _coco_shape(region, picture.size))
        _write_json(path, {"images": images, "annotations": annotations, "categories": categories})

    def save_cvat(self, path: Path) -> None:
        """ "CVAT for images 1.1": polygons, and masks of regions with holes."""
        root = ElementTree.Element("annotations")
        _text(root, "version", "1.1")
        labels = ElementTree.SubElement(
            ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task"), "labels"
        )
        for label in self.classes.foreground:
            element = ElementTree.SubElement(labels, "label")
            _text(element, "name", self.classes.names[label])
            _text(element, "color", hexadecimal(self.classes.palette[label]))
            ElementTree.SubElement(element, "attributes")
        for number, picture in enumerate(self.pictures):
            height, width = map(str, picture.size)
            image = ElementTree.SubElement(
                root, "image", id=str(number), name=picture.name, width=width, height=height
            )
            for region in picture.regions:
                kind, shape = _cvat_shape(region)
                name = self.classes.names[region.label]
                about = {"label": name, "source": "auto", "occluded": "0", "z_order": "0"}
                ElementTree.SubElement(image, kind, about | shape)
        ElementTree.indent(root)
        with written_whole(path) as part:
            ElementTree.ElementTree(root).write(part, encoding="utf-8", xml_declaration=True)


def _coco_shape(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    (left, top), (right, bottom) = region.outline.min(axis=0), region.outline.max(axis=0)
    box = [round(float(side), _DECIMALS) for side in (left, top, right - left, bottom - top)]
    if not region.holes:
        shape: Any = [np.ravel(_rounded(region.outline)).tolist()]
        area = _area(region.outline)
    else:
        bitmap, column, row = region.bitmap()
        whole = np.zeros(size, bool)
        inside = bitmap[: size[0] - row, : size[1] - column]
        whole[row : row + len(inside), column : column + inside.shape[1]] = inside
        shape, area = {"size": list(size), "counts": bitmap_runs(whole.T).tolist()}, float(bitmap.sum())
    return {"segmentation": shape, "area": round(area, _DECIMALS), "bbox": box, "iscrowd": 0}


def _cvat_shape(region: Region) -> tuple[str, dict[str, str]]:
    if not region.holes:
        return "polygon", {"points": ";".join(f"{x},{y}" for x, y in _rounded(region.outline))}
    bitmap, left, top = region.bitmap()
    height, width = bitmap.shape
    runs = ", ".join(map(str, bitmap_runs(bitmap).tolist()))
    return "mask", {
        "rle": runs,
        "left": str(left),
        "top": str(top),
        "width": str(width),
        "height": str(height),
    }


def _text(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def _rounded(ring: np.ndarray) -> list[list[float]]:
    rounded: list[list[float]] = ring.round(_DECIMALS).tolist()
    return rounded


def _closed(ring: np.ndarray) -> Sequence[Sequence[float]]:
    points = _rounded(ring)
    return [*points, points[0]]


def _write_json(path: Path, content: Any) -> None:
    with written_whole(path) as part:
        part.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
