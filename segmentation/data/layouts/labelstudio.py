"""Label Studio's JSON export: tasks with polygons, rectangles, ellipses and brushes in percent of the image."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from segmentation.data.class_map import ClassOptions
from segmentation.data.dataset import FoundFiles
from segmentation.data.files import IMAGE_ENDINGS, first_of, missing_folder, wrong_layout
from segmentation.data.layouts.annotations import (
    Annotated,
    at,
    ellipse,
    number_of,
    pictures_by_name,
    points_of,
    rectangle,
    size_of,
    turned,
    value_of,
)
from segmentation.data.recognise import BRUSHES
from segmentation.data.run_lengths import bitmap_runs, brush_values
from segmentation.errors import UserError
from segmentation.reading import ANNOTATION_BYTES, read_json

_UPLOAD = re.compile("[0-9a-f]{8}-")  # what uploaded files get before their names
_EXPECTED = "Label Studio's JSON export, and the images in any folder beside it"


def labelstudio(described: ClassOptions, /, *, root: Path, annotations: Path | None = None) -> FoundFiles:
    """The first annotation of each task; the classes are the labels in sorted order.

    `annotations` is a path, or one in `root`; by default the only JSON file there. Images are looked for in `root` and
    its folders by the end of their path in the task, else by their name, with or without the prefix of uploads.
    Tasks without annotation are left out.

    Raises `UserError` where there is no file or an image is missing, for a file that is not Label Studio's, and as
    `named_classes` does.
    """
    if not root.is_dir():
        raise missing_folder(root, _EXPECTED)
    path = _find(root, annotations)
    tasks = read_json(path, ANNOTATION_BYTES)
    if not isinstance(tasks, list):
        raise UserError(f"{path} is no list of tasks: export from Label Studio as JSON.")
    pictures = _Pictures(root)
    album, without = Annotated(root), 0
    for position, task in enumerate(tasks):
        with at(f"{path}: task {position}"):
            if isinstance(task, dict) and "annotations" not in task:
                raise UserError("it has no 'annotations': export as JSON, not as JSON-MIN.")
            given = value_of(task, "annotations", list)
            results = [each for each in given if isinstance(each, dict) and not each.get("was_cancelled")]
            if not results:
                without += 1
                continue
            image = album.add_image(pictures.find(value_of(task, "data", dict)))
            result = value_of(results[0], "result", list)
            labels = {str(item.get("id")): item for item in result if isinstance(item, dict) and _label(item)}
            for item in result:
                with at(f"result {item.get('id') if isinstance(item, dict) else item!s:.60}"):
                    _add(album, image, item, labels)
    notes = [f"{without} tasks have no annotation and are left out."] if without else []
    return album.found(described, path, notes=notes)


def _find(root: Path, annotations: Path | None) -> Path:
    files = sorted(root.glob("*.json")) if annotations is None else [root / annotations, annotations]
    files = [path for path in files if path.is_file()]
    if not files and any(root.glob(BRUSHES)):
        raise UserError(
            f"{root} holds a PNG file for each region, which do not say of which image: export the project as JSON too,"
            " which has the same regions, and put it beside the images."
        )
    if not files:
        raise wrong_layout(root, _EXPECTED)
    if annotations is None and len(files) > 1:
        names = first_of([path.name for path in files])
        raise UserError(f"{root} holds several JSON files ({names}): choose dataset.annotations=FILE.")
    return files[0]


class _Pictures:
    """The pictures in a folder, by path and by name."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_name = pictures_by_name(root)
        self._paths = {path for paths in self._by_name.values() for path in paths}

    def find(self, data: dict[str, Any]) -> str:
        """The path of a task's picture: an address, /data/upload/N/HASH-NAME, or /data/local-files/?d=PATH."""
        addresses = [value for value in data.values() if isinstance(value, str) and "." in value]
        for address in sorted(
            addresses, key=lambda text: text.rpartition(".")[2].lower() not in IMAGE_ENDINGS
        ):
            parts = urlsplit(address)
            local = parse_qs(parts.query.replace("+", "%2B")).get("d", [unquote(parts.path)])[0]
            words = local.replace("\\", "/").strip("/").split("/")
            for first in range(len(words)):  # as seen from above the root
                if (path := "/".join(words[first:])) in self._paths:
                    return path
            name = words[-1]
            found = self._by_name.get(name) or self._by_name.get(_UPLOAD.sub("", name, count=1)) or []
            if len(found) > 1:
                raise UserError(
                    f"{first_of(found)} are all called {name}: keep one, or give them other names."
                )
            if found:
                return found[0]
        named = f"'{addresses[0]:.80}'" if addresses else "of the task"
        raise UserError(f"the image {named} is not in {self._root}: download the images into it.")


def _label(item: dict[str, Any]) -> str:
    """The label of a result, which may be one of its own with the shape's id; "" without."""
    value = item.get("value")
    if not isinstance(value, dict):
        return ""
    names = value.get(str(item.get("type"))) or value.get("labels")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def _add(album: Annotated, image: int, item: Any, labels: dict[str, Any]) -> None:
    if isinstance(item, dict) and "value" not in item:
        return  # a relation between two others
    value = value_of(item, "value", dict)
    shapes = {"points", "rle", "radiusX", "width"} & value.keys()
    if not shapes:
        return  # a choice, a rating or a text about the picture
    if shapes == {"width"} and "height" not in value:
        album.left_out["points"] += 1
        return
    label = _label(item) or _label(labels.get(str(item.get("id")), {}))
    if not label:
        raise UserError("it has no label: give it one, or delete it.")
    if item.get("image_rotation"):
        raise UserError("the image was turned in Label Studio: turn the file, and annotate it again.")
    height, width = size = size_of(item, "original_height", "original_width")
    if not height:
        raise UserError("'original_width' and 'original_height' are missing.")
    if album.size(image) not in ((0, 0), size):
        raise UserError(f"its size is {width}x{height}, but another result's {album.size(image)[::-1]}.")
    album.set_size(image, size)
    if "rle" in value:
        brush = brush_values(_packed(value["rle"]), height * width * 4).reshape(height, width, 4)[..., 3] > 0
        album.shapes.add_region(image, label, bitmap_runs(brush), (0, 0, width, height))
        return
    scale = np.array([width, height]) / 100
    if "points" in value:
        points = points_of(value["points"]) * scale
    else:
        x, y = number_of(value, "x") * scale[0], number_of(value, "y") * scale[1]
        if "radiusX" in value:
            points = ellipse(
                x, y, number_of(value, "radiusX") * scale[0], number_of(value, "radiusY") * scale[1]
            )
        else:
            right, bottom = (
                x + number_of(value, "width") * scale[0],
                y + number_of(value, "height") * scale[1],
            )
            points = rectangle(x, y, right, bottom)
        points = turned(points, number_of(value, "rotation") if "rotation" in value else 0, x, y)
    album.add_ring(image, label, points)


def _packed(value: Any) -> bytes:
    try:
        return bytes(value)
    except (TypeError, ValueError, OverflowError):
        raise UserError("'rle' is no list of bytes.") from None
