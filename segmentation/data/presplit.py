"""Data that is divided by its folders: train, val and, if there is one, test."""

from itertools import combinations
from pathlib import Path

from segmentation.data.files import Pairs, first_of, pair_folders
from segmentation.data.names import common

NO_TEST = "No test folder: val serves as test."


def read_presplit(root: Path, *, suffix: str = "") -> tuple[dict[str, Pairs], tuple[str, ...]]:
    """The pairs of train, val and test in `{train,val,test}<suffix>/{images,masks}`, and notes on them.

    Without a test folder val serves as test. Raises `UserError` where `pair_folders` does.
    """
    expected = f"{{train,val,test}}{suffix}/{{images,masks}}; test may be left out"
    folders = {split: root / f"{split}{suffix}" for split in ("train", "val", "test")}
    notes = []
    if not folders["test"].is_dir():
        del folders["test"]
        notes.append(NO_TEST)
    parts = {
        split: pair_folders(folder / "images", folder / "masks", expected)
        for split, folder in folders.items()
    }
    for one, other in combinations(parts, 2):
        shared = list(common(parts[one].names, parts[other].names))
        if shared:
            notes.append(
                f"{len(shared)} file names occur in both {one} and {other} ({first_of(shared)}): "
                "make sure that they are different images."
            )
    parts.setdefault("test", parts["val"])
    return parts, tuple(notes)
