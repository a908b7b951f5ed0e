"""COCO's instances (Lin et al. 2014), as COCO itself, Roboflow, CVAT and others write them: one JSON file per split."""

import posixpath
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.data.class_map import ClassOptions
from segmentation.data.dataset import FoundFiles
from segmentation.data.files import missing_folder, wrong_layout
from segmentation.data.layouts.annotations import (
    UNKNOWN,
    Annotated,
    at,
    check_found,
    first_folder,
    id_of,
    inside,
    pictures_by_name,
    points_of,
    runs_of,
    size_of,
    split_of,
    value_of,
)
from segmentation.data.run_lengths import check_runs, coco_runs
from segmentation.errors import UserError
from segmentation.reading import ANNOTATION_BYTES, read_json

FILES = (
    "annotations/instances_*.json",
    "*/_annotations.coco.json",
    "_annotations.coco.json",
    "annotations/*.json",
    "*annotations*.json",
    "*coco*.json",
    "*.json",
)
"""Where annotation files are looked for: the first pattern that finds any."""

_EXPECTED = (
    "annotations/instances_{train,val}*.json, {train,valid,test}/_annotations.coco.json, or annotations.json"
)


def coco(described: ClassOptions, /, *, root: Path, annotations: Path | None = None) -> FoundFiles:
    """The categories as classes, in the order of their ids; polygons and run lengths, crowds are ignored.

    `annotations` is a path, or one in `root`; by default the files in `root` at `FILES`, which are splits if their
    names say so. Images are in `root`, in images/ or data/, in a folder of the split's name, or beside the annotations;
    those with paths of another machine are anywhere in `root`.

    Raises `UserError` where there is no file or an image is missing, for a file that is not COCO's, and as
    `named_classes` does.
    """
    if not root.is_dir():
        raise missing_folder(root, _EXPECTED)
    files = _find(root, annotations)
    parts = {path: _split_of(path) for path in files} if len(files) > 1 else dict.fromkeys(files, "")
    splits = set(parts.values())
    if len(files) > 1 and ("train" not in splits or "" in splits or len(splits) < len(files)):
        several = ", ".join(str(path.relative_to(root)) for path in files[:8])
        raise UserError(
            f"{root} holds several annotation files ({several}): choose dataset.annotations=FILE."
        )
    album = Annotated(root)
    names: dict[str, None] = {}
    for path, part in parts.items():
        with np.errstate(over="ignore"):  # becomes infinite, which is reported with its place
            content = read_json(path, ANNOTATION_BYTES, _compact)
        with at(str(path)):
            categories = _read_categories(content)
            names |= dict.fromkeys(categories.values())
            _read(content, categories, album, _read_images(content, path, part, album))
    return album.found(described, files[0] if len(files) == 1 else files[0].parent, names=list(names))


def _find(root: Path, annotations: Path | None) -> list[Path]:
    if annotations is not None:
        found = next((path for path in (root / annotations, annotations) if path.is_file()), None)
        if found is None:
            raise UserError(
                f"There is no file {root / annotations}, nor {annotations}: correct dataset.annotations."
            )
        return [found]
    files = next(filter(None, (sorted(root.glob(pattern)) for pattern in FILES)), [])
    if not files:
        raise wrong_layout(root, _EXPECTED)
    return files


def _split_of(path: Path) -> str:
    """The split of an annotation file: Roboflow names its folder, COCO the file, as in instances_train2017.json."""
    words = re.split(r"[_\W\d]+", path.stem)
    return split_of(path.parent.name) or next(filter(None, map(split_of, words)), "")


def _compact(item: dict[str, Any]) -> dict[str, Any]:
    """An annotation without what is not needed, its polygons in arrays: a hundredth of the memory."""
    rings = item.get("segmentation")
    if rings is None or "image_id" not in item:
        return item
    if isinstance(rings, list):
        with suppress(TypeError, ValueError, OverflowError):  # which are reported with their place
            rings = [np.array(ring, np.float32) for ring in rings]
    kept = {key: item.get(key) for key in ("image_id", "category_id", "iscrowd")}
    return {**kept, "segmentation": rings}


def _read_categories(content: Any) -> dict[Any, str]:
    """Names by id, without the category that Roboflow adds as the parent of the others."""
    found: dict[int, str] = {}
    parents: list[Any] = []
    for category in value_of(content, "categories", list):
        found[id_of(category, "id")] = value_of(category, "name", str)
        parents.append(category.get("supercategory"))
    annotations = value_of(content, "annotations", list)
    used = {str(item.get("category_id")).removesuffix(".0") for item in annotations if isinstance(item, dict)}
    return {
        identity: found[identity]
        for identity in sorted(found)
        if not (len(found) > 1 and found[identity] in parents and str(identity) not in used)
    }


def _names(images: list[Any], root: Path) -> tuple[list[str], dict[str, str]]:
    """The images' names, and of those that another machine wrote, as /home/me/a.jpg, the only picture called so."""
    names, elsewhere = [], {}
    by_name = cache(partial(pictures_by_name, root))
    for image in images:
        name = value_of(image, "file_name", str)
        try:
            names.append(inside(name))
        except UserError:
            found = by_name().get(posixpath.basename(name.replace("\\", "/")), [])
            if len(found) != 1:
                raise
            names.append(name)
            elsewhere[name] = found[0]
    return names, elsewhere


def _read_images(content: Any, path: Path, part: str, album: Annotated) -> dict[Any, int]:
    """Numbers of the images by their id."""
    root = album.root
    images = value_of(content, "images", list)
    names, elsewhere = _names(images, root)
    word = path.stem.removeprefix("instances_")
    words = [name for name in (word, part, path.parent.name) if name]
    folders = [*(root / name for name in words), *(root / "images" / name for name in words)]
    folders = [
        *folders,
        root / "images",
        root / "data",
        root,
        *([path.parent] if path.is_relative_to(root) else []),
    ]
    here = [name for name in names if name not in elsewhere]
    folder = first_folder(folders, here[0]) if here else root
    if folder is None:
        raise UserError(
            f"there is no image {here[0]} in {root}, in images/ or in a folder of the split: add it."
        )
    check_found(folder, [name for name in here if not (folder / name).is_file()], len(names))
    inner = folder.relative_to(root).as_posix()
    found: dict[Any, int] = {}
    for name, image in zip(names, images, strict=True):
        with at(f"image {name}"):
            identity = id_of(image, "id", str)
            if identity in found:
                raise UserError(f"the id {identity} is that of another image: give each its own.")
            full = elsewhere.get(name) or (name if inner == "." else f"{inner}/{name}")
            found[identity] = album.add_image(full, size=size_of(image), part=part)
    return found


def _read(content: Any, categories: dict[Any, str], album: Annotated, images: dict[Any, int]) -> None:
    annotations = value_of(content, "annotations", list)
    boxes = 0
    for position, annotation in enumerate(annotations):
        try:
            image = images.get(id_of(annotation, "image_id", str))
            name = categories.get(id_of(annotation, "category_id"))
            if image is None or name is None:
                key = "image_id" if image is None else "category_id"
                raise UserError(f"'{key}' is {annotation[key]}, which is not in the file.")
            shape = annotation.get("segmentation")
            if isinstance(shape, dict):
                _add_region(album, image, name, shape, crowd=bool(annotation.get("iscrowd")))
            elif shape is None or (isinstance(shape, Sequence) and not len(shape)):
                boxes += 1
            else:
                rings = [points_of(ring) for ring in value_of(annotation, "segmentation", list)]
                rings = [ring for ring in rings if len(ring) > 2]
                if not rings:
                    album.left_out["polygons with fewer than three points"] += 1
                album.shapes.add_polygons(image, name, rings, ignored=bool(annotation.get("iscrowd")))
        except UserError as error:
            raise UserError(f"annotation {position}: {error}") from error
    if boxes and boxes == len(annotations):
        raise UserError(
            "the annotations are boxes for detection, without 'segmentation': export polygons or masks."
        )
    if boxes:
        album.left_out["boxes without an outline"] += boxes


def _add_region(album: Annotated, image: int, name: str, shape: dict[str, Any], *, crowd: bool) -> None:
    size = value_of(shape, "size", list)
    height, width = size_of(dict(zip(("height", "width"), size, strict=False)))
    if album.size(image) == UNKNOWN:
        album.set_size(image, (height, width))
    if album.size(image) != (height, width):
        raise UserError(f"'size' is {[height, width]}, but the image's {list(album.size(image))}.")
    counts = value_of(shape, "counts", str, list)
    runs = coco_runs(counts) if isinstance(counts, str) else runs_of(counts)
    box = (0, 0, width, height)
    album.shapes.add_region(image, name, check_runs(runs, height * width), box, columns=True, ignored=crowd)
