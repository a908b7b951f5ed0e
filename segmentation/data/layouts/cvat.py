"""CVAT's XML of images ("CVAT for images 1.1")."""

from pathlib import Path
from typing import Any
from xml.parsers import expat

from segmentation.data.class_map import ClassOptions
from segmentation.data.dataset import FoundFiles
from segmentation.data.files import missing_folder, wrong_layout
from segmentation.data.layouts.annotations import (
    Annotated,
    at,
    check_found,
    ellipse,
    inside,
    number_of,
    rectangle,
    runs_of,
    size_of,
    split_of,
    turned,
    value_of,
)
from segmentation.data.run_lengths import check_runs
from segmentation.errors import UserError
from segmentation.reading import ANNOTATION_BYTES, read_bytes

_EXPECTED = (
    "annotations.xml of 'CVAT for images', and images beside it or in images/; or such a folder for each task"
)
_DRAWN = ("polygon", "box", "ellipse", "mask")
_WITHOUT_AREA = {"points": "points", "polyline": "lines", "cuboid": "cuboids", "skeleton": "skeletons"}
_LABEL = ["labels", "label", "name"]  # the elements around the name of a label


def cvat(described: ClassOptions, /, *, root: Path, annotations: Path | None = None) -> FoundFiles:
    """Polygons, boxes, ellipses and masks by their z-order; the classes are the labels in the task's order.

    `annotations` is a path, or one in `root`; by default annotations.xml, or the only XML file there, or the
    annotations.xml of each folder, for several tasks or jobs. Images are beside it, in images/ or images/default/, or
    in `root`, and in folders as the file says; subsets and folders called train, val and test are the split.

    Raises `UserError` where there is no file or an image is missing, for a file that is not CVAT's, and as
    `named_classes` does.
    """
    if not root.is_dir():
        raise missing_folder(root, _EXPECTED)
    paths = _find(root, annotations)
    reader = _Reader(root)
    for path in paths:
        with at(str(path)):
            reader.read(path, several=len(paths) > 1)
    where = paths[0] if len(paths) == 1 else root
    return reader.album.found(described, where, names=reader.labels, ordered=reader.ordered)


def _find(root: Path, annotations: Path | None) -> list[Path]:
    if annotations is not None:
        candidates = [root / annotations, annotations]
    else:
        files = sorted(root.glob("*.xml"))
        candidates = [root / "annotations.xml", *(files if len(files) == 1 else [])]
    found = [path for path in candidates if path.is_file()][:1]
    if not found and annotations is None:
        found = sorted(root.glob("*/annotations.xml"))
    if not found:
        raise wrong_layout(root, _EXPECTED)
    return found


class _Reader:
    """Reads the elements one after the other, because the tree of a large file takes gigabytes."""

    def __init__(self, root: Path) -> None:
        self.album = Annotated(root)
        self.labels: list[str] = []
        self.ordered = False
        self._missing: list[str] = []
        self._folders: list[Path] = []
        self._file = ""
        self._elements: list[str] = []
        self._image, self._name = -1, ""

    def read(self, path: Path, *, several: bool) -> None:
        """Adds the images of a file. Raises `UserError` for anything but CVAT's XML, and where images are missing."""
        root, before = self.album.root, len(self.album)
        places = dict.fromkeys((path.parent, root)) if path.is_relative_to(root) else (root,)
        self._folders = [place / inner for place in places for inner in ("images", ".", "images/default")]
        self._file = path.relative_to(root).as_posix() if several else ""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = lambda name: self._elements.pop()
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = _refuse_doctype
        try:
            parser.Parse(read_bytes(path, ANNOTATION_BYTES), True)
        except expat.ExpatError as error:
            raise UserError(
                f"line {error.lineno}: {expat.ErrorString(error.code)}: correct the XML."
            ) from error
        except LookupError as error:
            raise UserError(f"{error}: save the XML as UTF-8.") from error
        if len(self.album) == before:
            raise UserError("it lists no images: export the task as 'CVAT for images 1.1'.")
        check_found(root, self._missing, len(self.album) - before)

    def _text(self, text: str) -> None:
        if self._elements[-3:] == _LABEL:
            self.labels.append(text)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements.append(name)
        if name == "track":
            raise UserError("it is 'CVAT for video': export the task as 'CVAT for images 1.1'.")
        if name == "image":
            with at(f"image {attributes.get('name')}"):
                self._start_image(attributes)
        elif self._elements[-2:-1] == ["image"]:
            with at(f"image {self._name}, {name}"):
                self._add(name, attributes)

    def _start_image(self, attributes: dict[str, str]) -> None:
        self._name = value_of(attributes, "name", str)
        subset = attributes.get("subset", "")
        names = [inside(self._name), inside(f"{subset}/{self._name}".lstrip("/"))]
        places = (folder / name for name in names for folder in self._folders)
        found = next((place for place in places if place.is_file()), self.album.root / names[0])
        if not found.is_file():
            self._missing.append(self._name)
        path = found.relative_to(self.album.root).as_posix()
        self._image = self.album.add_image(
            path, size=size_of(attributes), part=split_of(subset), file=self._file
        )

    def _add(self, kind: str, attributes: dict[str, str]) -> None:
        if kind in _WITHOUT_AREA:
            self.album.left_out[_WITHOUT_AREA[kind]] += 1
        if kind not in _DRAWN:
            return
        label = value_of(attributes, "label", str)
        order = number_of(attributes, "z_order") if "z_order" in attributes else 0.0
        self.ordered |= order != 0
        if kind == "mask":
            left, top, width, height = (
                int(number_of(attributes, key)) for key in ("left", "top", "width", "height")
            )
            rows, columns = self.album.size(self._image)
            if not (0 <= left <= left + width <= columns and 0 <= top <= top + height <= rows):
                raise UserError("its box is not in the image.")
            written = value_of(attributes, "rle", str).split(",")
            runs = check_runs(runs_of(written), width * height)
            self.album.shapes.add_region(self._image, label, runs, (left, top, width, height), order=order)
        else:
            self.album.add_ring(self._image, label, _ring(kind, attributes), order=order)


def _ring(kind: str, attributes: dict[str, str]) -> Any:
    if kind == "polygon":
        return [pair.split(",") for pair in value_of(attributes, "points", str).split(";")]
    if kind == "box":
        left, top, right, bottom = (number_of(attributes, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        points, centre = rectangle(left, top, right, bottom), ((left + right) / 2, (top + bottom) / 2)
    else:
        x, y, radius_x, radius_y = (number_of(attributes, key) for key in ("cx", "cy", "rx", "ry"))
        points, centre = ellipse(x, y, radius_x, radius_y), (x, y)
    return turned(points, number_of(attributes, "rotation"), *centre) if "rotation" in attributes else points


def _refuse_doctype(*_: Any) -> None:
    raise UserError("it has a DOCTYPE, which could define endless entities: remove it.")
