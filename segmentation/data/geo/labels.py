"""The labels of scenes, from outlines or from rasters, and what classes they mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segmentation.data.class_map import BACKGROUND, ClassOptions
from segmentation.data.class_names import chosen_names, named_classes
from segmentation.data.files import evenly_spaced, first_of
from segmentation.data.geo.areas import blocks
from segmentation.data.geo.scenes import Header, Scene, place, placed, read_headers
from segmentation.data.geo.vectors import Burnt, Outlines, burn, is_vector, read_outlines
from segmentation.data.image_io import present_values
from segmentation.data.mask_values import binary_ignore
from segmentation.data.masks import IndexMask
from segmentation.errors import UserError
from segmentation.types import IGNORE_INDEX, Classes

_READ = 16  # blocks of label rasters whose values are looked at
_READ_SIDE = 512


@dataclass(frozen=True)
class RasterLabels:
    """Label rasters on the grid of a scene; their values mean what `values` says. Without data is ignored."""

    scene: Scene
    values: IndexMask

    @property
    def found(self) -> int:
        """The number of files on the scene."""
        return len(self.scene.sources)

    def mask(self, rows: slice, columns: slice) -> np.ndarray:
        """uint8 (H, W): the labels of the window. Raises `UserError` for values that are no classes."""
        if not self.scene.sources:
            return np.full((rows.stop - rows.start, columns.stop - columns.start), IGNORE_INDEX, np.uint8)
        values_HW, valid_HW = _integers(self.scene, rows, columns)
        values_HW[~valid_HW] = IGNORE_INDEX
        labels_HW = self.values.indices(values_HW, Path(self.scene.sources[0].header.name))
        return np.where(valid_HW, labels_HW, np.uint8(IGNORE_INDEX))


SceneLabels = Burnt | RasterLabels


def labelled(
    described: ClassOptions,
    root: Path,
    files: Mapping[str, Sequence[str]],
    scenes: Sequence[Scene],
    part_of: Sequence[str],
    *,
    layer: str | None,
    attribute: str | None,
    all_touched: bool,
) -> tuple[Classes, list[SceneLabels], tuple[str, ...]]:
    """The classes, the labels of each scene, and notes. Raises `UserError` for labels that lie elsewhere."""
    outlines: dict[str, Outlines] = {}
    rasters: dict[str, list[Header]] = {}
    for part, own in files.items():
        vectors = [name for name in own if is_vector(name)]
        if vectors and len(vectors) < len(own):
            raise UserError(f"The labels are vectors and rasters ({first_of(own)}): give one kind.")
        if vectors:
            outlines[part] = read_outlines(vectors, layer=layer, attribute=attribute)
        else:
            rasters[part] = read_headers(own, categories=True)
    if not outlines and (attribute or layer or all_touched):
        raise UserError(
            "dataset.attribute, dataset.layer and dataset.all_touched are for vectors, and the labels are rasters:"
            " leave them out (null, false)."
        )
    on_scenes: dict[int, Scene] = {}
    for part, headers in rasters.items():
        numbers = [number for number, other in enumerate(part_of) if other == part]
        on_scenes |= zip(numbers, placed(headers, [scenes[number] for number in numbers]), strict=True)
    held = [scene for scene in on_scenes.values() if scene.sources]
    notes = tuple(dict.fromkeys(note for each in outlines.values() for note in each.notes))
    indices: Mapping[str, int] | int = 0
    unlabelled = 0
    if outlines:
        names = sorted({name for each in outlines.values() for name in each.names}) or [
            _only_name(described, root)
        ]
        meaning = named_classes(described, names, root, "The outlines")
        classes, notes = meaning.classes, (*notes, *meaning.notes)
        indices, unlabelled = meaning.indices if attribute else meaning.indices[names[0]], meaning.unlabelled
        values = IndexMask(classes, (), (_two_values(_values_of(held)) or ()) if classes.binary else ())
    else:
        classes, values = _classes_of_values(described, root, held)
    labels = [
        RasterLabels(on_scenes[number], values)
        if part in rasters
        else burn(outlines[part], scenes[number], indices, unlabelled, all_touched=all_touched)
        for number, part in enumerate(part_of)
    ]
    for part in files:
        if not any(each.found for each, other in zip(labels, part_of, strict=True) if other == part):
            raise UserError(
                f"No label of {first_of(files[part])} lies on the images of {part}, which are around"
                f" {place(scenes[part_of.index(part)])}: give labels of the same place, or correct the coordinate"
                " system of one of them."
            )
    return classes, labels, notes


def _only_name(described: ClassOptions, root: Path) -> str:
    """What outlines are called whose attribute is not asked for."""
    names = [name for name in chosen_names(described, root) if name != BACKGROUND]
    if len(names) > 1:
        raise UserError(
            f"The names are {', '.join(names)}: give dataset.attribute, the column that says which outline is which."
        )
    return names[0] if names else "foreground"


def _classes_of_values(
    described: ClassOptions, root: Path, scenes: Sequence[Scene]
) -> tuple[Classes, IndexMask]:
    """What the values of label rasters mean: as described, else background and foreground."""
    if described.described or (root / "classes.yaml").is_file():
        known = described.read(root)
        return known.classes, IndexMask(known.classes, known.ignored_labels, known.labels, known.unlabelled)
    ignore = binary_ignore(described)
    found = [value for value in _values_of(scenes) if value != ignore]
    labels = _two_values(found, ignore)
    if ignore in dict(labels or ()):
        raise UserError(
            f"dataset.ignore=[{ignore}]: these pixels are one of the two classes that the label rasters hold: say what"
            " their values mean, as in dataset.names='{0: ignore, 1: road, 2: roof}'."
        )
    if labels is None:
        raise UserError(
            f"The label rasters hold {first_of(found, 8)}: say what these mean, as in"
            " dataset.names='{0: background, 1: roof, 2: road}', or with a classes.yaml in dataset.root."
        )
    classes = Classes((BACKGROUND, "foreground"), binary=True)
    ignored = () if ignore is None else (ignore,)
    return classes, IndexMask(classes, ignored, labels)


def _two_values(found: Sequence[int], ignore: int | None = None) -> tuple[tuple[int, int], ...] | None:
    """The values of background and foreground: 0 and 1, or 0 and 255."""
    if set(found) <= {0, 1, IGNORE_INDEX} and (1 in found or ignore == IGNORE_INDEX):
        return (0, 0), (1, 1)
    return ((0, 0), (IGNORE_INDEX, 1)) if set(found) <= {0, IGNORE_INDEX} else None


def _values_of(scenes: Sequence[Scene]) -> list[int]:
    """The values in some blocks of label rasters."""
    some = blocks(scenes, _READ_SIDE)
    found: set[int] = set()
    for index in evenly_spaced(len(some), _READ):
        number, top, left, bottom, right = some[index].area
        values_HW, valid_HW = _integers(scenes[number], slice(top, bottom), slice(left, right))
        found |= set(present_values(values_HW[valid_HW])) if valid_HW.any() else set()
    return sorted(found)


def _integers(scene: Scene, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """uint8 or uint16 values (H, W) of a label raster, and where it has any."""
    values_CHW, valid_HW = scene.read(rows, columns)
    name = scene.sources[0].header.name
    if len(values_CHW) != 1:
        raise UserError(f"{name} has {len(values_CHW)} bands: give labels as one band of class values.")
    values_HW = np.where(valid_HW, values_CHW[0], 0)
    if values_HW.dtype == np.uint8:
        return values_HW, valid_HW
    integers_HW = values_HW.astype(np.uint16)
    if not np.array_equal(integers_HW, values_HW):
        raise UserError(f"{name} holds values that are no labels: give whole numbers of 0..65535.")
    return integers_HW, valid_HW
