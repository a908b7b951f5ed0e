"""labelme's JSON files (github.com/wkentaro/labelme), each beside its picture."""

import base64
import posixpath
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.data.class_map import ClassOptions
from segmentation.data.dataset import FoundFiles
from segmentation.data.files import composed, first_of, missing_folder, wrong_layout
from segmentation.data.layouts.annotations import (
    Annotated,
    at,
    ellipse,
    inside,
    points_of,
    rectangle,
    size_of,
    value_of,
)
from segmentation.data.layouts.pairs import File, walk
from segmentation.data.opening import check_size, opened
from segmentation.data.run_lengths import bitmap_runs
from segmentation.errors import UserError
from segmentation.reading import read_json

_EXPECTED = "pictures, and labelme's JSON files of the same names beside them"
_BYTES = 2**29  # most of a file is the picture's copy
_WITHOUT_AREA = ("point", "points", "line", "linestrip", "cuboid")
_CORNERS = (
    "polygon",
    "oriented_rectangle",
    "rotation",
    "quadrilateral",
)  # the latter of programs that follow labelme


def labelme(described: ClassOptions, /, *, root: Path) -> FoundFiles:
    """Polygons, rectangles, circles and masks; the classes are the labels in sorted order, `__ignore__` is ignored.

    Folders in `root` are searched; train, val and test keep their images. Pictures without a JSON file are left out,
    and JSON files of other tools. Without the picture, its copy in the file is read.

    Raises `UserError` where there are no files, for one without picture and copy, and as `named_classes` does.
    """
    if not root.is_dir():
        raise missing_folder(root, _EXPECTED)
    pictures: dict[str, list[str]] = {}
    for picture in walk(root):
        pictures.setdefault(composed(picture.stem), []).append(picture.path)
    album = Annotated(root)
    foreign = []
    for file in walk(root, {"json"}):
        path = root / file.path
        with at(str(path)):
            content = read_json(path, _BYTES, _without_picture)
            if not isinstance(content, dict) or "shapes" not in content:
                foreign.append(file.path)
                continue
            shapes = value_of(content, "shapes", list)
            beside = pictures.get(composed(file.stem), [])
            image = album.add_image(
                beside[0] if len(beside) == 1 else _picture(file, content, root),
                size=size_of(content, "imageHeight", "imageWidth"),
                file=file.path,
            )
            for position, shape in enumerate(shapes):
                with at(f"shape {position}"):
                    _add(album, image, shape)
    if not album:
        raise wrong_layout(root, _EXPECTED)
    without = sum(map(len, pictures.values())) - len(album)
    notes = [f"{without} pictures have no JSON file and are left out."] if without > 0 else []
    if foreign:
        notes.append(f"{len(foreign)} JSON files are not labelme's and are left out ({first_of(foreign)}).")
    return album.found(described, root, notes=notes)


def _without_picture(item: dict[str, Any]) -> dict[str, Any]:
    if "imageData" in item:
        item["imageData"] = bool(item["imageData"])
    return item


def _picture(file: File, content: Any, root: Path) -> str:
    """The picture that a file names, as seen from the file; without, the file itself, where it holds a copy."""
    name = value_of(content, "imagePath", str).replace("\\", "/")
    copied = content.get("imageData") is True
    try:
        path = inside(posixpath.join(file.folder, name))
    except UserError:
        if not copied:
            raise
        return file.path
    if not copied and not (root / path).is_file():
        raise UserError(f"there is no picture {root / path}, nor one of this name beside the file: add it.")
    return path if (root / path).is_file() else file.path


def _add(album: Annotated, image: int, shape: Any) -> None:
    label, points = value_of(shape, "label", str), points_of(value_of(shape, "points", list))
    kind = shape.get("shape_type", "polygon")
    if kind in _WITHOUT_AREA:
        album.left_out["points and lines"] += 1
        return
    if kind in ("rectangle", "circle", "mask") and len(points) < 2:
        raise UserError(f"a {kind} has two points, not {len(points)}.")
    if kind in _CORNERS or (kind == "rectangle" and len(points) == 4):
        album.add_ring(image, label, points)
    elif kind == "rectangle":
        album.add_ring(image, label, rectangle(*points[0], *points[1]))
    elif kind == "circle":
        (x, y), _ = points[:2].tolist()
        radius = float(np.hypot(*(points[1] - points[0])))
        album.add_ring(image, label, ellipse(x, y, radius, radius))
    elif kind == "mask":
        bitmap = _bitmap(value_of(shape, "mask", str))
        left, top = np.round(points.min(0)).astype(int).tolist()
        height, width = bitmap.shape
        album.shapes.add_region(image, label, bitmap_runs(bitmap), (left, top, width, height))
    else:
        raise UserError(f"'shape_type' is {kind!r:.60}, which is not known: draw a polygon.")


def _bitmap(text: str) -> np.ndarray:
    try:
        with opened(BytesIO(base64.b64decode(text, validate=True))) as picture:
            check_size("'mask'", *picture.size)
            return np.array(picture.convert("I")) != 0
    except UserError:
        raise
    except Exception as error:  # decoders raise many kinds of exceptions
        raise UserError("'mask' is no picture.") from error
