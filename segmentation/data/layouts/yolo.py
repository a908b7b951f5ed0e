"""YOLO's polygons (Ultralytics): a text file per image, with coordinates as fractions of the image."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.data.class_map import ClassOptions
from segmentation.data.dataset import FoundFiles
from segmentation.data.files import instead_of, missing_folder, wrong_layout
from segmentation.data.layouts.annotations import Annotated, at, points_of, rectangle, split_of
from segmentation.data.layouts.pairs import walk
from segmentation.data.splits import LONGEST_NAME
from segmentation.errors import UserError
from segmentation.reading import read_text, read_yaml

_EXPECTED = "data.yaml or classes.txt with the names, images/ and labels/, perhaps with train/, val/ and test/ in them"
_KEYS = ("train", "val", "valid", "test")


def yolo(described: ClassOptions, /, *, root: Path) -> FoundFiles:
    """The classes of data.yaml, or of the only other YAML file, or of classes.txt.

    An image without text file, or with an empty one, is background. data.yaml says where the images of train, val and
    test are; without, they are in images/. The text file of .../images/NAME.jpg is .../labels/NAME.txt, or beside it.

    Boxes among polygons are drawn; images of train that are also val or test are divided.

    Raises `UserError` for another layout, for boxes instead of polygons, and as `named_classes` does.
    """
    if not root.is_dir():
        raise missing_folder(root, _EXPECTED)
    description = _description(root)
    if description is not None:
        with at(str(description)):
            content = read_yaml(description)
            names = _names(content)
            places = dict(_places(content, root))
    else:
        description, places = root / "classes.txt", {}
        if not description.is_file():
            raise wrong_layout(root, _EXPECTED)
        names = [line.strip() for line in read_text(description).splitlines() if line.strip()]
    reader = _Reader(root, names)
    notes = []
    seen: set[Path] = set()
    for part, paths in (places or {"": [root / "images"]}).items():
        if seen.issuperset(paths):
            notes.append(
                f"{description.name} gives {part} the images of another split, so it has none of its own."
            )
            continue
        seen.update(paths)
        for path in paths:
            reader.read_folder(path, part)
    if reader.boxes:
        with at(reader.first_box):
            if reader.boxes == len(reader.album.shapes):
                raise UserError("five numbers are a box for detection: export polygons for segmentation.")
        notes.append(
            f"{reader.boxes} of {len(reader.album.shapes)} shapes are boxes ({reader.first_box}): drawn as rectangles."
        )
    return reader.album.found(described, description, names=names, relative=True, notes=notes)


def _description(root: Path) -> Path | None:
    """data.yaml, or the only other YAML file; None where there is none."""
    files = [path for pattern in ("*.yaml", "*.yml") for path in sorted(root.glob(pattern)) if path.is_file()]
    files = [path for path in files if path.stem != "classes"]
    named = [path for path in files if path.stem == "data"]
    return named[0] if named else files[0] if len(files) == 1 else None


def _names(content: Any) -> list[str]:
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        names = [names[key] for key in sorted(names, key=int)]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int) for name in names):
        raise UserError("'names' is no list of class names: write names: [cat, dog].")
    return [str(name) for name in names]


def _places(content: dict[str, Any], root: Path) -> Iterator[tuple[str, list[Path]]]:
    """The folders and lists of images of each split; those of other machines are looked for in root."""
    for key in _KEYS:
        given = content.get(key)
        for_part = [given] if isinstance(given, str) else given
        if not for_part or (key == "valid" and content.get("val")):
            continue
        if not isinstance(for_part, list) or not all(isinstance(path, str) for path in for_part):
            raise UserError(f"'{key}' is {given!r:.60}, which is no folder: write {key}: images/{key}.")
        paths = [_place(path, content.get("path"), root) for path in for_part]
        if None not in paths:
            yield split_of(key), [path for path in paths if path is not None]
        elif key != "test":  # it often names a folder that was not published
            raise UserError(f"'{key}' is {given!r:.80}, which is not in {root}: write it as seen from there.")


def _place(given: str, base: Any, root: Path) -> Path | None:
    """A path of data.yaml in root: exports write them as seen from elsewhere, such as ../train/images."""
    parts = [part for part in given.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    bases = [Path(base).name] if isinstance(base, str) else []
    if any(len(name.encode(errors="replace")) > LONGEST_NAME for name in (*parts, *bases)):
        return None
    for first in range(len(parts)):
        for folder in (root, *(root / name for name in bases)):
            path = folder.joinpath(*parts[first:])
            if path.is_dir() or (path.is_file() and path.suffix == ".txt"):
                return path
    return None


class _Reader:
    """Reads the images of folders and lists, with their shapes."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self.album = Annotated(root, names)
        self.boxes, self.first_box = 0, ""
        self._names = names

    def read_folder(self, place: Path, part: str) -> None:
        """A folder or a list of images. Raises `UserError` for none, and as `_read`."""
        root = self.album.root
        if place.is_file():
            with at(str(place)):
                lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
                images = [_listed(line, root) for line in lines]
        else:
            images = [place / file.path for file in walk(place)] if place.is_dir() else []
        if not images:
            raise UserError(f"{place} holds no images. {instead_of(_EXPECTED, root)}")
        for image in images:
            path = image.relative_to(root)
            label = _label_file(path)
            if not (root / label).is_file() and (root / path.with_suffix(".txt")).is_file():
                label = path.with_suffix(".txt")
            number = self.album.add_image(path.as_posix(), part=part, file=label.as_posix())
            if (root / label).is_file():
                self._read(root / label, number)

    def _read(self, path: Path, image: int) -> None:
        names = self._names
        for number, line in enumerate(read_text(path).splitlines(), 1):
            words = line.split()
            if not words:
                continue
            place = f"{path}, line {number}"
            with at(place):
                if not words[0].isdecimal() or int(words[0]) >= len(names):
                    raise UserError(
                        f"'{words[0]:.20}' is no class: write 0..{len(names) - 1}, or add it to names."
                    )
                points = points_of(words[1:])
                if len(points) and not (np.abs(points) < 2).all():
                    raise UserError("points are fractions of the image's width and height, 0..1.")
                if len(points) == 2:
                    self.boxes, self.first_box = self.boxes + 1, self.first_box or place
                    centre, half = points[0], points[1] / 2
                    points = rectangle(*(centre - half), *(centre + half))
                self.album.add_ring(image, names[int(words[0])], points)


def _listed(line: str, root: Path) -> Path:
    """The image of a line; lists of other machines have their paths, of which the end is in root."""
    parts = [part for part in line.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    paths = (root.joinpath(*parts[first:]) for first in range(len(parts)))
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise UserError(f"there is no image {line:.200} in {root}: add it or remove the line.")
    return found


def _label_file(image: Path) -> Path:
    """labels/ in place of the last images/ of a path."""
    parts = [*image.with_suffix(".txt").parts]
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts)
