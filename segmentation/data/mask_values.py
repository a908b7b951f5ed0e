"""What the values in masks mean, where nobody has said it: two classes, or the values themselves as classes."""

import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segmentation.data.binary_masks import BinaryMask, check_threshold, find_threshold
from segmentation.data.class_map import ClassOptions, mask_decoder
from segmentation.data.files import Pairs, evenly_spaced, first_of
from segmentation.data.image_io import WIDE_MODES, open_picture, present_values, read_integers
from segmentation.data.masks import MaskDecoder, is_lossy, refuse_shape_in_alpha
from segmentation.errors import UserError, refuse
from segmentation.types import IGNORE_COLOUR, IGNORE_INDEX, Classes, Colour

_READ = 1024  # masks whose values are read
_MOST_COLOURS = 64  # more are a photo, or edges that a program has blurred
_HIGHEST = 127  # label among labels with gaps: masks with higher values have soft edges or levels of grey


def decoder_of(
    described: ClassOptions, root: Path, parts: Mapping[str, Pairs], threshold: int | Literal["auto"] = "auto"
) -> tuple[Classes, MaskDecoder, tuple[str, ...]]:
    """The classes of the masks in all parts, their decoder, and notes.

    Several classes where the options or a classes.yaml in `root` describe them; else background and foreground, where
    `threshold` is given or the masks hold two values or soft edges; else the values or colours that they hold.

    Raises `UserError` where `ClassOptions.read`, `find_threshold` and `found_classes` do, and for a threshold out of
    range or beside a description of the classes.
    """
    masks = next(iter(parts.values())).masks
    if threshold != "auto":
        check_threshold(threshold)
    if described.described or (root / "classes.yaml").is_file():
        if threshold != "auto":
            raise UserError(
                f"dataset.threshold={threshold} is for masks of two values, and names, labels or a classes.yaml"
                " describe the classes: leave one out."
            )
        class_map = described.read(root)
        return class_map.classes, mask_decoder(class_map, masks), ()
    binary, ignore = Classes(("background", "foreground"), binary=True), binary_ignore(described)
    if threshold != "auto":
        return binary, BinaryMask(threshold, ignore), ()
    found, note = found_classes(described, parts)
    if found is None:
        return (binary, *find_threshold(masks, ignore))
    class_map = found.read(root)
    return class_map.classes, mask_decoder(class_map, masks), (note,)


def binary_ignore(described: ClassOptions) -> int | None:
    """The ignored value of binary masks. Raises `UserError` for several, a colour, and options for more classes."""
    for option in ("merge", "unlabelled"):
        if (value := getattr(described, option)) is not None:
            raise UserError(
                f"dataset.{option}={value}: the masks hold two values. Describe the classes by dataset.names for it."
            )
    if not described.ignore:
        return None
    first, *more = described.ignore
    if more or not isinstance(first, int) or not 0 <= first <= 255:
        raise UserError(
            f"dataset.ignore={list(described.ignore)}: masks of two values have one ignored value of 0..255. For more"
            " classes give dataset.names."
        )
    return first


def found_classes(described: ClassOptions, parts: Mapping[str, Pairs]) -> tuple[ClassOptions | None, str]:
    """The options that make the values or colours of the masks classes, and a note of it; None for two classes.

    Two classes are those of grey masks with two values, or with soft edges. Raises `UserError` for masks that cannot
    be read, for grey beside coloured masks, and for too many colours.
    """
    masks = [pairs.masks for pairs in parts.values()]
    paths = [
        listing.path(index) for listing in masks for index in evenly_spaced(len(listing), _READ // len(masks))
    ]
    # Readers change the warning filters of all threads: this restores them.
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        looked = list(pool.map(_read_or_error, paths))
    held = [each for each in looked if isinstance(each, _Held)]
    errors = [each for each in looked if isinstance(each, UserError)]
    if errors and not held:
        raise errors[0]
    for error in errors:
        refuse(error)
    count = sum(map(len, masks))
    some = "The masks" if len(paths) == count else f"{len(paths)} of {count} masks"
    cure = "Name them by dataset.names or in a classes.yaml."
    colours = {colour for mask in held for colour in mask.colours}
    if any(red != green or red != blue for red, green, blue in colours):
        grey = next((mask.path for mask in held if mask.values), None)
        if grey is not None:
            raise UserError(
                f"{grey} is grey, but other masks are coloured: save all alike, or give dataset.names with colours.",
                kind="mask-colours",
                names=[str(grey)],
            )
        ignored = [each for each in described.ignore if isinstance(each, list)]
        if IGNORE_COLOUR in colours:
            ignored.append(list(IGNORE_COLOUR))
        left = sorted(colours - {tuple(each) for each in ignored})
        names: Any = {f"class {number}": list(colour) for number, colour in enumerate(left)}
        note = f"{some} hold {len(names)} colours, which are the classes. {cure}"
        return replace(described, names=names, ignore=ignored), note
    present = {value for mask in held for value in mask.values} | {colour[0] for colour in colours}
    values = sorted(present - {each for each in described.ignore if isinstance(each, int)} - {IGNORE_INDEX})
    if any(mask.lossy for mask in held) or not _are_labels(values, present):
        return None, ""
    whole = len(values) == values[-1] - values[0] + 1
    shown = f"{values[0]}..{values[-1]}" if whole else first_of(values, 20)
    note = f"{some} hold the values {shown}, which are the classes. {cure}"
    names = [f"class {value}" for value in values]
    if values != list(range(len(values))):
        return replace(described, labels=dict(zip(values, names, strict=True))), note
    palette = {value: list(colour) for mask in held for value, colour in mask.palette}
    if palette.keys() >= set(values) and len({tuple(palette[value]) for value in values}) == len(values):
        names = {name: palette[value] for name, value in zip(names, values, strict=True)}
    return replace(described, names=names), note


def _are_labels(values: list[int], present: set[int]) -> bool:
    """Whether grey values number several classes: not 0 and one other, nor soft edges, nor levels of grey."""
    if len(values) < 2 or (len(values) == 2 and values[0] == 0):
        return False
    if values[-1] > IGNORE_INDEX and len(values) <= _HIGHEST:  # ids of 16 bits
        return True
    consecutive = values[0] in (0, 1) and values[-1] - values[0] + 1 == len(values)
    return (
        (consecutive or values[-1] <= _HIGHEST)
        if IGNORE_INDEX not in present
        else (consecutive and values[-1] <= _HIGHEST)
    )


@dataclass(frozen=True)
class _Held:
    """What a mask holds: grey values, perhaps with colours in a palette, or colours."""

    path: Path
    values: tuple[int, ...] = ()
    colours: tuple[Colour, ...] = ()
    palette: tuple[tuple[int, Colour], ...] = ()
    lossy: bool = False


def _read_or_error(path: Path) -> _Held | UserError:
    try:
        return _read(path)
    except UserError as error:
        return error


def _read(path: Path) -> _Held:
    picture = open_picture(path)
    refuse_shape_in_alpha(picture, path)
    if is_lossy(picture):
        return _Held(path, lossy=True)
    if picture.mode in {"P", "L", "1", *WIDE_MODES}:
        values = tuple(present_values(read_integers(picture, path)))
        parts = (picture.getpalette("RGB") or []) if picture.mode == "P" else []
        known = [value for value in values if 3 * value + 2 < len(parts)]
        palette = tuple((value, _colour(*parts[3 * value : 3 * value + 3])) for value in known)
        return _Held(path, values, palette=palette)
    codes = np.unique(np.asarray(picture.convert("RGBA")).view("<u4")[..., 0] & 0xFFFFFF).tolist()
    if len(codes) > _MOST_COLOURS:
        raise UserError(
            f"{path} holds {len(codes)} colours, too many for classes: save masks without blurring them.",
            kind="mask-colours",
        )
    return _Held(path, colours=tuple(_colour(code & 255, code >> 8 & 255, code >> 16) for code in codes))


def _colour(red: int, green: int, blue: int) -> Colour:
    return red, green, blue
