"""Masks whose classes stand in a CSV file beside them: Roboflow's masks, and class_dict.csv with colours."""

import csv
from pathlib import Path
from typing import Any

from segmentation.data.class_map import ClassOptions, mask_decoder
from segmentation.data.dataset import FoundFiles
from segmentation.data.files import Pairs, contents, first_of, missing_folder, wrong_layout
from segmentation.data.layouts.folders import with_masks
from segmentation.data.layouts.guess import guess_pairs
from segmentation.data.layouts.pairs import read_pairs
from segmentation.errors import UserError
from segmentation.reading import read_text

_IGNORED = ("void", "unlabelled", "unlabeled", "unknown", "ignore")


def roboflow(*, root: Path) -> FoundFiles:
    """Roboflow's semantic segmentation masks: NAME.jpg, NAME_mask.png and _classes.csv in each split's folder.

    Raises `UserError` for another layout, for lists of classes that differ, and where `read_pairs` does.
    """
    if not root.is_dir():
        raise missing_folder(root, "{train,valid,test}/_classes.csv")
    found = [*root.glob("_classes.csv"), *root.glob("*/_classes.csv")]
    tables = sorted(path for path in found if path.is_file())
    if not tables:
        expected = "NAME.jpg, NAME_mask.png and _classes.csv in train, valid and test"
        raise wrong_layout(root, expected)
    lists = {path: _labels(path) for path in tables}
    for path, labels in lists.items():
        if labels != lists[tables[0]]:
            raise UserError(f"{tables[0]} and {path} list different classes: correct the wrong one.")
    glob = "*" if tables[0].parent == root else "*/*"
    parts = read_pairs(root, glob, "{parent}/{stem}_mask.png")
    return _found(ClassOptions(labels=lists[tables[0]]), root, parts, ())


def _labels(path: Path) -> dict[Any, Any]:
    rows = _rows(path, ("pixel value", "class"))
    try:
        return {int(value): name for value, name in rows}
    except ValueError:
        raise UserError(f"{path} has a pixel value that is no number: write such as '1, road'.") from None


def class_dict(*, root: Path) -> FoundFiles:
    """Coloured masks whose classes class_dict.csv lists (name, r, g, b), as for the Semantic Segmentation Suite.

    Images and masks are found by the names of their folders and files, such as train/ and train_labels/. A class that
    is called void (or unlabelled, unknown, ignore) is ignored.

    Raises `UserError` for another table, where the images and masks are not found, and where `read_pairs` does.
    """
    if not root.is_dir():
        raise missing_folder(root, "class_dict.csv, train/ and train_labels/")
    path = root / "class_dict.csv"
    if not path.is_file():
        raise UserError(
            f"There is no {path} ({root} holds {contents(root)}): write name,r,g,b and a line per class."
        )
    names: dict[Any, Any] = {}
    ignored: list[Any] = []
    for name, *colour in _rows(path, ("name", "r", "g", "b")):
        try:
            parts = [int(value) for value in colour]
        except ValueError:
            raise UserError(f"{path}: '{name}' has a colour that is no number: write NAME,R,G,B.") from None
        if name.lower() in _IGNORED:
            ignored.append(parts)
        elif name in names:
            raise UserError(f"{path} lists '{name}' twice: delete a line.")
        else:
            names[name] = parts
    guesses = guess_pairs(root)
    if len(guesses) != 1:
        raise UserError(
            f"{root} holds {contents(root)}: which files are images and which masks is unclear. Give dataset=pairs with"
            " dataset.images, dataset.masks and dataset.names={NAME: [R,G,B]}."
        )
    notes = ["Void is ignored, not a class (class_dict.csv)."] if ignored else []
    if guesses[0].left:
        notes.append(f"Pictures without masks are left out: {first_of(guesses[0].left)}.")
    found = read_pairs(root, guesses[0].images, guesses[0].masks, skip=guesses[0].skip or None)
    return _found(ClassOptions(names=names, ignore=ignored), root, found, tuple(notes))


def _rows(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    """The rows of a table without its header, as long as the columns are."""
    try:
        table = [[cell.strip() for cell in row] for row in csv.reader(read_text(path).splitlines())]
    except csv.Error as error:
        raise UserError(f"{path} is no table ({error}): correct it.") from error
    rows = [row for row in table if any(row)]
    if not rows or tuple(map(str.lower, rows[0])) != columns:
        raise UserError(f"{path}: the first line must be '{','.join(columns)}'.")
    for row in rows[1:]:
        if len(row) != len(columns) or not all(row):
            raise UserError(f"{path}: '{','.join(row)[:60]}' has not {len(columns)} values: correct it.")
    return rows[1:]


def _found(
    described: ClassOptions, root: Path, parts: dict[str, Pairs], notes: tuple[str, ...]
) -> FoundFiles:
    class_map = described.read(root)
    decoder = mask_decoder(class_map, next(iter(parts.values())).masks)
    return FoundFiles(class_map.classes, with_masks(parts, decoder), notes)
