"""`dataset=auto`: which layout a folder has, and the options that read it."""

from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from segmentation.data.class_map import ClassOptions
from segmentation.data.files import Pairs, contents, first_of, missing_folder
from segmentation.data.layouts.folders import read_folders
from segmentation.data.layouts.guess import guess_pairs
from segmentation.data.layouts.pairs import read_pairs
from segmentation.data.layouts.table import table_in
from segmentation.data.mask_values import binary_ignore, found_classes
from segmentation.data.recognise import marks
from segmentation.errors import UserError

_SEARCHED = 100  # folders, for the message
_OUTLINES = {".gpkg", ".geojson", ".shp", ".fgb"}
_CLASSES = ("names", "labels", "ignore")


@dataclass(frozen=True)
class Recognised:
    """The layout of a folder: the name of its reader, the options that it needs, why, and what else to know."""

    name: str
    options: dict[str, Any]
    because: str
    note: str = ""

    def said(self, root: Path) -> str:
        """One line for the log."""
        given = [f"dataset.{key}='{value}'" for key, value in self.options.items() if isinstance(value, str)]
        note = f". {self.note}" if self.note else ""
        return f"{root} looks like {self.because}: {' '.join([f'dataset={self.name}', *given])}{note}"


def recognise(root: Path, described: ClassOptions = ClassOptions()) -> Recognised:  # noqa: B008 - is frozen
    """The layout of the files in a folder, of which `described` says the classes, or nothing.

    Masks without a description of their classes are looked into, as `found_classes` does. Raises `UserError`, with the
    choices, where a folder has no known layout or the marks of several.
    """
    if not root.is_dir():
        raise missing_folder(root, "images and masks, or the export of a labelling tool")
    found = marks(root)
    # A table of classes says nothing of where the masks are.
    folders = _has_folders(root) and [mark.dataset for mark in found] != ["class_dict"]
    if len(found) + folders > 1:
        choices = [f"dataset={mark.dataset} ({mark.name})" for mark in found]
        choices += ["dataset=folder or binary (images and masks)"] * folders
        raise UserError(f"{root} looks like several layouts: choose {', '.join(choices)}.")
    if found:
        seen = next(path for pattern in found[0].patterns for path in root.glob(pattern))
        return Recognised(found[0].dataset, {}, f"{found[0].name} ({seen.relative_to(root).as_posix()})")
    if folders:
        return _with_classes("folder", {}, root, described, read_folders(root), "images and masks in folders")
    if (table := table_in(root)) is not None:
        return Recognised("csv", {}, f"a table of images and masks ({table})")
    outlines = [path.name for path in sorted(root.glob("*")) if path.suffix in _OUTLINES]
    if outlines:
        raise UserError(
            f"{root} holds outlines ({first_of(outlines)}), as of images of the earth: give dataset=geotiff"
            f" dataset.root={root} dataset.images='*.tif' dataset.labels={outlines[0]}."
        )
    guesses = guess_pairs(root)
    if len(guesses) > 1:
        choices = [f"dataset.images='{each.images}' dataset.masks='{each.masks}'" for each in guesses[:4]]
        raise UserError(
            f"{root} has several masks for an image: choose dataset=pairs {', or '.join(choices)}."
        )
    if not guesses:
        if (inner := known_below(root)) is not None:
            raise UserError(
                f"{root} holds {contents(root)}, no known layout. {inner} looks like {marks(inner)[0].name}: give"
                f" dataset.root={inner}.",
                kind="layout",
            )
        raise UserError(
            f"{root} holds {contents(root)}, no known layout. Say which files are images and which masks:"
            " dataset=pairs dataset.images='images/*.jpg' dataset.masks='masks/{stem}.png', or dataset=csv.",
            kind="layout",
        )
    guess = guesses[0]
    options = {"images": guess.images, "masks": guess.masks, **({"skip": guess.skip} if guess.skip else {})}
    parts = read_pairs(root, guess.images, guess.masks, skip=guess.skip or None)
    found_pairs = _with_classes("pairs", options, root, described, parts, "images and masks")
    outside = [folder or "those in the folder itself" for folder in guess.left]
    left = f"Pictures without masks are left out: {first_of(outside, 8)}. " if outside else ""
    return replace(found_pairs, note=f"{left}{found_pairs.note}".strip())


def known_below(root: Path) -> Path | None:
    """The first folder in `root`, or in its folders, that has the marks of a layout; archives are packed so."""
    folders = (path for pattern in ("*", "*/*") for path in root.glob(pattern) if path.is_dir())
    return next((folder for folder in islice(folders, _SEARCHED) if marks(folder)), None)


def _has_folders(root: Path) -> bool:
    """Whether `read_folders` reads it."""
    flat = (root / "images").is_dir() and (root / "masks").is_dir()
    return flat or any(
        all((root / f"{split}{suffix}" / "masks").is_dir() for split in ("train", "val"))
        for suffix in ("", "_split")
    )


def _with_classes(
    name: str,
    options: dict[str, Any],
    root: Path,
    described: ClassOptions,
    parts: dict[str, Pairs],
    because: str,
) -> Recognised:
    """With the options that say what the classes are, where nothing else does."""
    if described.described or (root / "classes.yaml").is_file():
        return Recognised(name, options, because)
    found, note = found_classes(described, parts)
    if found is None and name == "folder":
        return Recognised("binary", {"ignore": binary_ignore(described)}, f"{because} of two classes")
    if found is None:
        binary_ignore(described)  # refuses what two classes cannot have
        return Recognised(name, options, f"{because} of two classes")
    own = {field.name: getattr(found, field.name) for field in fields(found) if field.name in _CLASSES}
    given = {
        key: list(value) if key == "ignore" else value
        for key, value in own.items()
        if value not in (None, ())
    }
    return Recognised(name, {**options, **given}, because, note)
