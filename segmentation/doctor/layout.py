"""Faults of a folder as a whole: what its reader refused, and what can be said of its pictures all the same."""

import os
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from segmentation.data.dataset import read_ahead
from segmentation.data.files import ENDINGS, first_of
from segmentation.data.findings import Finding
from segmentation.data.image_io import open_picture
from segmentation.doctor.rules import counted
from segmentation.errors import UserError

_PICTURES = 20_000  # that are opened below a folder whose layout is not known
_READ_AHEAD = 4  # files per thread
_SEPARATORS = "_-. "
_MASKS = ("masks", "mask", "labels", "annotations", "gt")
_REGIONS_CURE = (
    "merge the masks of each image into one file that holds a value for each class",
    "dataset=regions for files as ID/images/ID.png and ID/masks/*.png",
)


_CURES = {
    "layout": ("dataset=NAME of the layout", "dataset=pairs dataset.images=GLOB dataset.masks=TEMPLATE"),
    "missing-partner": ("add the missing files, or delete those without a partner",),
    "mask-per-region": _REGIONS_CURE,
}


def layout_findings(errors: Sequence[UserError], options: Mapping[str, Any], threads: int) -> list[Finding]:
    """The errors as findings; with `threads` (not 0) also the pictures below `root` that cannot be read."""
    root = Path(str(options.get("root") or ""))
    errors = list({str(error): error for error in errors}.values())  # dataset=auto reads the folder twice
    regions = list(_regions(errors, root))
    partners = [error for error in errors if error.kind == "missing-partner"]
    others = [error for error in errors if not (regions and (error in partners or not error.kind))]
    found = regions + [_as_finding(same) for same in _alike(others)]
    if threads and options.get("root") and root.is_dir():
        found += _unreadable(root, threads)
    return found


def _alike(errors: Sequence[UserError]) -> list[list[UserError]]:
    """The errors, together where each is of one file and they are of one kind."""
    found: dict[object, list[UserError]] = {}
    for error in errors:
        found.setdefault(error.kind if len(error.names) == 1 else error, []).append(error)
    return list(found.values())


def _as_finding(errors: Sequence[UserError]) -> Finding:
    first = errors[0]
    more = f". {counted(len(errors) - 1, 'more file')} alike" if len(errors) > 1 else ""
    cure = _CURES.get(first.kind, ("correct it as the message says",))
    files = [str(name) for error in errors for name in error.names]
    return Finding(first.kind or "layout", f"{str(first).rstrip('.')}{more}", cure, files)


def _regions(errors: Sequence[UserError], root: Path) -> Iterator[Finding]:
    """Masks that are named after a part of an image, as IMAGE_1.png and IMAGE_2.png or IMAGE/1.png."""
    partners = [error for error in errors if error.kind == "missing-partner" and len(error.names)]
    if len(partners) > 1:
        images, masks = sorted(partners[0].names), list(partners[1].names)
        owned = [owner for mask in masks if (owner := _owner(mask, images)) is not None]
        if len(owned) > 0.9 * len(masks) and len(set(owned)) < len(owned):
            text = f"{len(masks)} masks belong to {len(set(owned))} images, one for each region ({first_of(masks)})"
            yield Finding("mask-per-region", text, _REGIONS_CURE, masks)
            return
    for place in (root / name for name in _MASKS if errors):
        stems = _stems(root / "images")
        folders = [each.name for each in place.iterdir() if each.is_dir()] if place.is_dir() else []
        if folders and stems.issuperset(folders):
            text = (
                f"{place} holds a folder of masks for each image, one for each region ({first_of(folders)})"
            )
            yield Finding("mask-per-region", text, _REGIONS_CURE, [str(place / name) for name in folders])
            return


def _owner(mask: str, images: Sequence[str]) -> str | None:
    """The image whose name, and a separator, a mask's name begins with."""
    place = bisect_right(images, mask)
    for image in reversed(images[max(0, place - 2) : place]):
        if mask.startswith(image) and mask[len(image) : len(image) + 1] in _SEPARATORS:
            return image
    return None


def _stems(folder: Path) -> set[str]:
    return {each.stem for each in folder.iterdir() if each.is_file()} if folder.is_dir() else set()


def _unreadable(root: Path, threads: int) -> list[Finding]:
    def look(path: Path) -> UserError | None:
        try:
            open_picture(path)
        except UserError as error:
            return error
        return None

    paths = list(_pictures(root, ENDINGS))
    with ThreadPoolExecutor(threads) as pool:
        errors = list(read_ahead(look, paths, pool, ahead=_READ_AHEAD * threads))
    bad = [(path, error) for path, error in zip(paths, errors, strict=True) if error is not None]
    if not bad:
        return []
    text = f"{len(bad)} of {len(paths)} pictures below {root}: {str(bad[0][1]).rstrip('.')}"
    return [
        Finding(
            "unreadable",
            text,
            ("repair them, or delete them with their partners",),
            [str(path) for path, _ in bad],
        )
    ]


def _pictures(root: Path, endings: Collection[str]) -> Iterator[Path]:
    """The first `_PICTURES` picture files below a folder; links to folders are not followed."""
    left = _PICTURES
    for folder, inner, names in os.walk(root):
        inner.sort()
        for name in sorted(names):
            if name.rpartition(".")[2].lower() in endings and not name.startswith("."):
                yield Path(folder, name)
                left -= 1
                if not left:
                    return
