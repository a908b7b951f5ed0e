"""`pairs`: images by a glob and their masks by a template, wherever they lie; `read_pairs` is for other layouts too."""

import os
import posixpath
import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from glob import escape
from itertools import takewhile
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np

from segmentation.data.class_map import ClassOptions
from segmentation.data.dataset import WHOLE, FoundFiles
from segmentation.data.files import (
    ENDINGS,
    IMAGE_ENDINGS,
    Pairs,
    composed,
    first_of,
    listing_of,
    missing_folder,
)
from segmentation.data.layouts.folders import with_masks
from segmentation.data.mask_values import decoder_of
from segmentation.data.recognise import PARTS
from segmentation.data.splits import SPLITS
from segmentation.errors import UserError, refuse

_EXPECTED = "images and masks below this folder"
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_MOST_WAYS = 3
_DEEPEST = 16  # folders in each other


def pairs(
    described: ClassOptions,
    /,
    *,
    root: Path,
    images: str,
    masks: str,
    skip: str | None = None,
    threshold: int | Literal["auto"] = "auto",
    split_folders: bool = True,
) -> FoundFiles:
    """Images that match the glob `images`, each with the mask that the template `masks` names, both below `root`.

    In the glob `*` is any part of a name, `**` any folders and `{a,b}` one of these words. In the template `{stem}` is
    the image's file name without ending, `{parent}` its folder, and `{1}`, `{2}`, ... what the wildcards of the glob
    matched. Without an ending, or with `.*`, any picture's ending does. Another image's mask is no image, nor is
    what the glob `skip` matches.

    Names of samples are paths below the folder that all images share. With `split_folders`, folders called train, val
    or test (also training, validation, train_images, ...) divide the images. The classes are as `decoder_of` says.

    Raises `UserError` for a wrong template, for no images, for an image without mask and a mask without image, and
    where some images alone lie in folders of train, val or test.
    """
    parts = read_pairs(root, images, masks, skip=skip, split_folders=split_folders)
    classes, decoder, notes = decoder_of(described, root, parts, threshold)
    return FoundFiles(classes, with_masks(parts, decoder), notes)


def read_pairs(
    root: Path, images: str, masks: str, *, skip: str | None = None, split_folders: bool = True
) -> dict[str, Pairs]:
    """The pairs of the glob and the template of `pairs`, by split folder or as `WHOLE`; raises `UserError` as that."""
    if not root.is_dir():
        raise missing_folder(root, _EXPECTED)
    glob, template = _Glob.of(images), _Template.of(masks)
    files = walk(root)
    if skip is not None:
        skipped = _Glob.of(skip, "skip")
        files = [file for file in files if skipped.match(file) is None]
    wanted: dict[int, str] = {}  # image -> path of its mask
    mask_of: dict[int, list[int]] = {}
    for index, file in enumerate(files):
        if (match := glob.match(file)) is not None:
            path = template.path(file, match)
            mask_of[index] = others = template.chosen(index, _of_stem(files, path), files)
            wanted[index] = (
                files[others[0]].stem if others else path
            )  # the same text once: there may be a million
    used = {other for others in mask_of.values() for other in others}
    chosen = [image for image in wanted if image not in used]
    if not chosen:
        raise UserError(_no_images(root, images, masks, [files[index] for index in wanted], len(files)))
    several = [image for image in chosen if len(mask_of[image]) > 1]
    if several:
        found = [files[other].path for other in mask_of[several[0]]]
        raise UserError(
            f"{root / files[several[0]].path} has several masks ({first_of(found)}): give dataset.masks their ending.",
            kind="mask-per-region",
            names=found,
        )
    _check_partners(root, files, wanted, mask_of, chosen, template)
    paired = [(files[image], files[mask_of[image][0]]) for image in chosen if mask_of[image]]
    if not paired:
        raise UserError(f"No image in {root} has a mask: correct dataset.masks.", kind="missing-partner")
    return _parts(root, paired, split_folders)


@dataclass(frozen=True, slots=True)
class File:
    """A picture below the root: its path without the ending, and the ending."""

    stem: str
    ending: str

    @property
    def path(self) -> str:
        """The path with the ending."""
        return f"{self.stem}.{self.ending}"

    @property
    def folder(self) -> str:
        """The path of its folder; "" for the root."""
        return posixpath.dirname(self.stem)


def _of_stem(files: Sequence[File], stem: str) -> Iterator[int]:
    """The indices of the files with a stem; the files are sorted by it."""
    first = bisect_left(files, stem, key=attrgetter("stem"))
    return takewhile(lambda index: files[index].stem == stem, range(first, len(files)))


def walk(root: Path, endings: Collection[str] = IMAGE_ENDINGS) -> list[File]:
    """The files below a folder with one of the endings, hidden ones left out, sorted by path.

    Links to folders are followed once.

    Raises `UserError` for a folder that cannot be listed.
    """
    files: list[File] = []
    for folder, name in _entries(root, "", set(), 0):
        stem, _, ending = name.rpartition(".")
        if stem and ending.lower() in endings:
            files.append(File(f"{folder}{stem}", ending))
    return sorted(files, key=lambda file: (file.stem, file.ending))


def _entries(root: Path, below: str, seen: set[tuple[int, int]], depth: int) -> Iterator[tuple[str, str]]:
    """The folder and the name of each file."""
    folders = []
    try:
        status = (root / below).stat()
        if (status.st_dev, status.st_ino) in seen or depth > _DEEPEST:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(root / below) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file():
                    yield below, entry.name
    except OSError as error:
        raise UserError(f"{root / below} cannot be listed: {error.strerror}. Allow reading it.") from error
    for name in sorted(folders):
        yield from _entries(root, f"{below}{name}/", seen, depth + 1)


def _divided(pattern: str, option: str) -> tuple[str, str | None]:
    """A glob or template without its ending, and the ending in lower case; None for any."""
    stem, _, ending = pattern.rpartition(".")
    if stem and "/" not in ending and (ending == "*" or ending.lower() in IMAGE_ENDINGS):
        pattern, found = stem, None if ending == "*" else ending.lower()
    else:
        found = None
    if not pattern or pattern.startswith(("/", "~")) or pattern.endswith("/"):
        raise UserError(
            f"dataset.{option}={pattern} is no path of files below dataset.root: write such as images/*.jpg."
        )
    return pattern, found


@dataclass(frozen=True)
class _Glob:
    pattern: "re.Pattern[str]"
    ending: str | None

    @classmethod
    def of(cls, text: str, option: str = "images") -> "_Glob":
        stem, ending = _divided(text, option)
        parts = re.split(r"(\*\*/|\*\*|\*|\?|\{[^{}]*\})", stem)
        if _ways(stem) > _MOST_WAYS:
            raise UserError(
                f"dataset.{option}={text} has too many * and {{}} in a name, which would take for ever: write fewer."
            )
        return cls(re.compile("".join(map(_as_pattern, parts))), ending)

    def match(self, file: File) -> "re.Match[str] | None":
        if self.ending not in (None, file.ending.lower()):
            return None
        return self.pattern.fullmatch(file.stem)


def _ways(glob: str) -> int:
    """The power of a name's length that bounds in how many ways a glob can match it.

    What varies in length leaves one way less than there are of it, because both ends of a folder's name are fixed.
    """
    anywhere = glob.count("**")
    inner = [len(re.findall(r"\*|\{", part)) for part in glob.replace("**", "").split("/")]
    return anywhere + sum(max(0, count - 1) for count in inner)


def _as_pattern(part: str) -> str:
    if part.startswith("{"):
        return f"({'|'.join(map(re.escape, part[1:-1].split(',')))})"
    kinds = {"**/": "((?:[^/]+/)*)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}
    return kinds.get(part) or re.escape(part)


@dataclass(frozen=True)
class _Template:
    text: str
    ending: str | None

    @classmethod
    def of(cls, text: str) -> "_Template":
        stem, ending = _divided(text, "masks")
        names = _PLACEHOLDER.findall(stem)
        wrong = next(
            (name for name in names if name not in ("stem", "parent") and not name.isdecimal()), None
        )
        if wrong is not None or not names or "{" in _PLACEHOLDER.sub("", stem):
            raise UserError(
                f"dataset.masks={text} is no template: write {{stem}} for an image's name without ending, {{parent}}"
                " for its folder, {1} for what the first * of dataset.images matched."
            )
        return cls(stem, ending)

    def path(self, file: File, match: "re.Match[str]") -> str:
        """The path of the image's mask, without ending."""

        def filled(placeholder: "re.Match[str]") -> str:
            name = placeholder[1]
            if name == "stem":
                return posixpath.basename(file.stem)
            if name == "parent":
                return file.folder or "."
            if not 1 <= int(name) <= match.re.groups:
                raise UserError(
                    f"dataset.masks has {{{name}}}, but dataset.images has {match.re.groups} wildcards: correct it."
                )
            return match[int(name)].removesuffix("/")

        return posixpath.normpath(_PLACEHOLDER.sub(filled, self.text))

    def takes(self, file: File) -> bool:
        """Whether the file has the ending of a mask."""
        return self.ending in (None, file.ending.lower())

    def chosen(self, image: int, found: Iterable[int], files: Sequence[File]) -> list[int]:
        """Those with the ending of a mask, without the image; of pictures and arrays, the pictures."""
        masks = [index for index in found if index != image and self.takes(files[index])]
        return [index for index in masks if files[index].ending.lower() in ENDINGS] or masks

    def names(self) -> "re.Pattern[str]":
        """What the file names of masks look like, without their ending."""
        parts = re.split(r"\{\w+\}", posixpath.basename(self.text))
        return re.compile(
            translate("*".join(map(escape, parts)))
        )  # whose time is bounded, unlike that of (.*)(.*)


def _no_images(root: Path, images: str, masks: str, matched: Sequence[File], count: int) -> str:
    if matched:
        return (
            f"dataset.images={images} and dataset.masks={masks} match each other's files in {root}"
            f" ({first_of([file.path for file in matched])}): give their endings, such as *.jpg and {{stem}}.png."
        )
    return f"dataset.images={images} matches none of the {count} pictures below {root}: correct it."


def _check_partners(
    root: Path,
    files: Sequence[File],
    wanted: dict[int, str],
    mask_of: dict[int, list[int]],
    chosen: Sequence[int],
    template: _Template,
) -> None:
    without = [image for image in chosen if not mask_of[image]]
    if without:
        refuse(
            UserError(
                f"{len(without)} of {len(chosen)} images in {root} have no mask"
                f" ({first_of([files[image].path for image in without])}; the first should be"
                f" {wanted[without[0]]}.{template.ending or 'png'}): add the masks, remove the images, or correct"
                " dataset.masks.",
                kind="missing-partner",
                names=[files[image].path for image in without],
            )
        )
    folders = {posixpath.dirname(path) for path in wanted.values()}
    known = set(chosen) | {other for others in mask_of.values() for other in others}
    stems = {files[index].stem for index in known}  # also of an array beside a picture of the same mask
    looks = template.names()
    alone = [
        file.path
        for file in files
        if file.stem not in stems
        and file.folder in folders
        and template.takes(file)
        and looks.fullmatch(posixpath.basename(file.stem))
    ]
    if alone:
        refuse(
            UserError(
                f"{len(alone)} masks in {root} have no image ({first_of(alone)}): add the images, remove the masks, or"
                " correct dataset.images.",
                kind="missing-partner",
                names=alone,
            )
        )


def _parts(root: Path, found: Sequence[tuple[File, File]], split_folders: bool) -> dict[str, Pairs]:
    parts: dict[str, list[tuple[File, File]]] = {}
    for pair in found:
        parts.setdefault(_part_of(pair[0]) if split_folders else WHOLE, []).append(pair)
    if "train" not in parts or not parts.keys() & {"val", "test"}:
        parts = {WHOLE: list(found)}
    elif WHOLE in parts:
        names = [image.path for image, _ in parts[WHOLE]]
        raise UserError(
            f"{len(names)} of {len(found)} images in {root} lie in no folder of train, val or test ({first_of(names)}):"
            " narrow dataset.images, or give dataset.split_folders=false to divide all at random."
        )
    return {part: as_pairs(root, parts[part]) for part in (*SPLITS, WHOLE) if part in parts}


def _part_of(file: File) -> str:
    """train, val or test, after which the first such folder is called; else `WHOLE`."""
    for folder in file.folder.lower().split("/"):
        words = re.split(r"[_\-. ]", folder.rstrip("0123456789"))  # train2017
        parts = {PARTS[word] for word in words if word in PARTS}
        if len(parts) == 1:
            return parts.pop()
    return WHOLE


def as_pairs(root: Path, found: Sequence[tuple[File, File]]) -> Pairs:
    """Images with their masks, sorted by the samples' names: the paths below the folder that all images share.

    Raises `UserError` for two of one name.
    """
    folders = {image.folder for image, _ in found}
    shared = folders.pop() if len(folders) == 1 else posixpath.commonpath(folders) if all(folders) else ""
    found = [found[index] for index in in_order([image for image, _ in found])]
    below = len(shared) + 1 if shared else 0
    images = listing_of(root / shared, (image.path[below:] for image, _ in found))
    repeated = np.flatnonzero(images.stems[1:] == images.stems[:-1])
    if len(repeated):
        both = " and ".join(images.path(repeated[0] + more).name for more in (0, 1))
        raise UserError(f"{root / shared} holds {both}, which have the same name: keep one of them.")
    return Pairs(images, listing_of(root, (mask.path for _, mask in found)))


def in_order(files: Sequence[File]) -> list[int]:
    """The indices of the files, sorted by name as samples are."""
    names = [composed(file.stem).encode(errors="surrogateescape") for file in files]
    return sorted(range(len(files)), key=names.__getitem__)
