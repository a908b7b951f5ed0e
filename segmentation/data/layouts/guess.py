"""Guesses the glob and the template of `pairs` from the names of folders and files."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from segmentation.data.layouts.pairs import File, walk

_MASK_WORDS = (
    r"masks?|labels?|lbls?|gts?|ground|truths?|ground_?truths?|annotations?|annots?|anns?|segmentations?|seg(?:mentationclass)?"
    r"|targets?|matte|manual1?|1st|2nd|l"
)
_IMAGE_WORDS = r"jpegimages|images?|imgs?|photos?|pictures?|inputs?|frames?|originals?|raw|rgb|dir|data"
_WORD = re.compile(r"[_\-. ]+")
_IS_MASK = re.compile(f"(?:{_MASK_WORDS})", re.IGNORECASE)
_DROPPED = re.compile(f"(?:{_MASK_WORDS}|{_IMAGE_WORDS})", re.IGNORECASE)
_GLUED = re.compile(r"^(train|val|test)(annot|gt|masks?|labels?)$", re.IGNORECASE)
_SUFFIX = re.compile(rf"[_\-. ](?:{_MASK_WORDS})$|(?:mask|label)$", re.IGNORECASE)
_MASK_PREFIX = re.compile(rf"^(?:{_MASK_WORDS})(?:[_\-. ]|(?=\d))", re.IGNORECASE)
_IMAGE_PREFIX = re.compile(rf"^(?:{_IMAGE_WORDS})(?:[_\-. ]|(?=\d))", re.IGNORECASE)
_OWN_SUFFIX = re.compile(r"[_\-. ][A-Za-z]+$")  # of images, such as _sat
_SAMPLED = 64  # images of a folder whose masks are looked for
_COMPARED = 2_000_000  # names, at most, with those of other masks
_ENOUGH = 0.5  # of them, so that a missing mask is reported as such


class Guess(NamedTuple):
    """The options of `pairs`, and the folders of pictures that have no masks."""

    images: str
    masks: str
    left: tuple[str, ...] = ()
    skip: str = ""


def guess_pairs(root: Path) -> list[Guess]:
    """The ways in which pictures below a folder are images with masks: none, one, or several for the user to choose."""
    folders: dict[str, list[File]] = {}
    for file in walk(root):
        folders.setdefault(file.folder, []).append(file)
    return list(dict.fromkeys(_in_folders(folders) or _side_by_side(folders)))


def _in_folders(folders: Mapping[str, Sequence[File]]) -> list[Guess]:
    """Images and masks in folders of their own, whose paths differ in words such as images and masks."""
    images: dict[tuple[str, ...], list[str]] = {}
    masks: dict[tuple[str, ...], list[str]] = {}
    for folder in sorted(folders):
        kind = masks if any(map(_means_mask, folder.split("/"))) else images
        kind.setdefault(_key(folder), []).append(folder)
    partners = [(found[-1], masks[key]) for key, found in images.items() if key in masks]
    if any(len([folder for folder in images[key] if folder]) > 1 for key in masks if key in images):
        return []  # two folders of images for one of masks
    if not partners and len(folders) == 2 and len(images) == len(masks) == 1:
        # Names that differ in more, such as Training_Input and Task1_GroundTruth: there is no other choice.
        partners = [(found[-1], other) for found, other in zip(images.values(), masks.values(), strict=True)]
    own = {folder for folder, _ in partners}
    left = tuple(folder for found in images.values() for folder in found if folder not in own)
    guesses = []
    for choice in range(max((len(found) for _, found in partners), default=0)):
        pairs = [(folder, found[min(choice, len(found) - 1)]) for folder, found in partners]
        places, names = _places(pairs, left), _names(pairs, folders)
        if places is not None and names is not None:
            glob, template = (posixpath.join(place, name) for place, name in zip(places, names, strict=True))
            guesses.append(Guess(glob, template.replace("{own}", f"{{{places[0].count('*') + 1}}}"), left))
    return guesses


def _means_mask(folder: str) -> bool:
    return (
        bool(_GLUED.match(folder))
        or any(_IS_MASK.fullmatch(word) for word in _WORD.split(folder))
        or (folder.lower() == "segmentationclass")
    )


def _key(folder: str) -> tuple[str, ...]:
    """What is left of a path without the words for images and masks."""
    left = []
    for part in folder.lower().split("/"):
        part = glued[1] if (glued := _GLUED.match(part)) else part
        left.append("_".join(word for word in _WORD.split(part) if not _DROPPED.fullmatch(word)))
    return tuple(part for part in left if part)


def _places(pairs: Sequence[tuple[str, str]], left: Sequence[str]) -> tuple[str, str] | None:
    """The folders of a glob, and those of its template, that give these pairs of folders; None if there are none.

    The glob leaves out the folders `left`, of images without masks.
    """
    split = [(image.split("/") if image else [], mask.split("/") if mask else []) for image, mask in pairs]
    depths = {(len(image), len(mask)) for image, mask in split}
    if len(depths) != 1:
        tops = {
            (image[:1] == mask[:1] or image[1:] == mask[1:], *image[:1], *mask[:1]) for image, mask in split
        }
        return (
            (f"{split[0][0][0]}/**", f"{split[0][1][0]}/{{1}}") if len(tops) == 1 and tops.pop()[0] else None
        )
    captures: dict[int, tuple[int, list[str]]] = {}
    for place in range(depths.pop()[0]):
        names = [image[place] for image, _ in split]
        if len(set(names)) > 1:
            captures[place] = (len(captures) + 1, names)
    template = []
    for place in range(len(split[0][1])):
        names = [mask[place] for _, mask in split]
        if len(set(names)) == 1:
            template.append(names[0])
            continue
        found = next(
            (
                f"{before}{{{number}}}{after}"
                for number, own in captures.values()
                for before, after in [_around(own[0], names[0])]
                if all(f"{before}{image}{after}" == mask for image, mask in zip(own, names, strict=True))
            ),
            None,
        )
        if found is None:
            return None
        template.append(found)
    return _glob_of([image for image, _ in split], left), "/".join(template)


def _glob_of(folders: Sequence[Sequence[str]], left: Sequence[str]) -> str:
    """The glob of folders of one depth; where it would match some that are `left`, with words instead of `*`."""
    places = [sorted(set(names)) for names in zip(*folders, strict=True)]
    loose = [names[0] if len(names) == 1 else "*" for names in places]
    others = [folder.split("/") for folder in left]
    caught = any(
        len(other) == len(loose) and all(word in ("*", name) for word, name in zip(loose, other, strict=True))
        for other in others
    )
    if caught:
        return "/".join(names[0] if len(names) == 1 else f"{{{','.join(names)}}}" for names in places)
    return "/".join(loose)


def _around(part: str, whole: str) -> tuple[str, str]:
    before, _, after = whole.partition(part)
    return before, after


def _names(pairs: Sequence[tuple[str, str]], folders: Mapping[str, Sequence[File]]) -> tuple[str, str] | None:
    """The file's part of the glob and of the template; None where too few images would have a mask."""
    options: Counter[tuple[str, str, str, str]] = Counter()
    total = 0
    for image, mask in pairs:
        images, masks = _stems(folders[image]), _stems(folders[mask])
        count = min(_SAMPLED, max(4, _COMPARED // len(masks)))
        sample = images[:: max(1, len(images) // count)]
        known, shared = set(masks), _common_ends(images)
        total += len(sample)
        for stem in sample:
            options.update(set(_fitting(stem, known, masks, shared)))
    if not options:
        return None
    (start, end, before, after), count = max(
        options.items(), key=lambda item: (item[1], -sum(map(len, item[0])))
    )
    if count < _ENOUGH * total:
        return None
    if not start and not end:
        return "*", f"{before}{{stem}}{after}.*"
    return f"{start}*{end}", f"{before}{{own}}{after}.*"


def _fitting(
    stem: str, known: set[str], masks: Sequence[str], shared: tuple[str, str]
) -> Iterator[tuple[str, str, str, str]]:
    """What to take off an image's name (start, end), and what to put around the rest (before, after), for a mask."""
    if stem in known:
        yield "", "", "", ""
        return
    start, end = shared
    for own_start, own_end in {("", ""), (start, ""), ("", end), (start, end)}:
        core = stem[len(own_start) : len(stem) - len(own_end)]
        if core:
            for mask in masks:
                before, found, after = mask.partition(core)
                if found and not any(map(str.isdigit, (before[-1:], after[:1]))):
                    yield own_start, own_end, before, after


def _stems(files: Sequence[File]) -> list[str]:
    return [posixpath.basename(file.stem) for file in files]


def _common_ends(stems: Sequence[str]) -> tuple[str, str]:
    """What all names begin with and what they end with, without digits at the seam."""
    start = posixpath.commonprefix(list(stems)).rstrip("0123456789") if len(stems) > 1 else ""
    end = (
        posixpath.commonprefix([stem[::-1] for stem in stems]).rstrip("0123456789")[::-1]
        if len(stems) > 1
        else ""
    )
    return start, end


def _side_by_side(folders: Mapping[str, Sequence[File]]) -> list[Guess]:
    """Images and masks in the same folders: with a suffix such as _mask, or with two endings."""
    votes: dict[tuple[str, str], dict[str, int]] = {}
    for folder, files in folders.items():
        for option, count in _votes(files).items():
            votes.setdefault(option, {})[folder] = count
    total = sum(map(len, folders.values()))
    good = [option for option, found in votes.items() if sum(found.values()) >= _ENOUGH * total]
    guesses = []
    for glob, template in good:
        own = list(votes[glob, template])
        left = tuple(sorted(folders.keys() - set(own)))
        depths = {folder.count("/") + 1 if folder else 0 for folder in own}
        split = [folder.split("/") if folder else [] for folder in own]
        place = _glob_of(split, left) if len(depths) == 1 else "**"
        wildcards = len(re.findall(r"[*]+|{", place)) + 1
        masks = posixpath.join("{parent}", template).replace("{own}", f"{{{wildcards}}}")
        skip = _skipped([_stems(folders[folder]) for folder in own], template)
        guesses.append(Guess(posixpath.join(place, glob), masks, left, skip))
    return guesses


def _skipped(folders: Sequence[Sequence[str]], template: str) -> str:
    """The glob of further files that most images have, such as p_edge beside p and p_mask; "" for none."""
    mask = template.removeprefix("{stem}").removesuffix(".*")
    images, others = 0, Counter[str]()
    for names in folders:
        known = set(names)
        own = {name for name in known if f"{name}{mask}" in known}
        images += len(own)
        for name in known - own:
            if (suffix := _OWN_SUFFIX.search(name)) and suffix[0] != mask and name[: suffix.start()] in own:
                others[suffix[0]] += 1
    found = sorted(suffix for suffix, count in others.items() if count >= _ENOUGH * images)
    return f"**/*{{{','.join(found)}}}" if found else ""


def _votes(files: Sequence[File]) -> Counter[tuple[str, str]]:
    """The globs and templates that fit the files of a folder, with how many files each explains."""
    votes: Counter[tuple[str, str]] = Counter()
    names, endings = _stems(files), {file.ending.lower() for file in files}
    ome = ".ome" if all(name.endswith(".ome") for name in names) else ""
    bases = [name.removesuffix(ome) for name in names]
    known, images_with = set(bases), {}
    images_after = {name[len(start[0]) :]: start[0] for name in bases if (start := _IMAGE_PREFIX.match(name))}
    for name in bases:
        if not _SUFFIX.search(name) and (own := _OWN_SUFFIX.search(name)):
            images_with[name[: own.start()]] = own[0]
    for name in bases:
        if (start := _MASK_PREFIX.match(name)) and (image := images_after.get(name[len(start[0]) :])):
            votes[f"{image}*{ome}", f"{start[0]}{{own}}{ome}.*"] += 2
        if (suffix := _SUFFIX.search(name)) is None:
            continue
        base = name[: suffix.start()]
        if base in known:
            votes[f"*{ome}", f"{'{own}' if ome else '{stem}'}{suffix[0]}{ome}.*"] += 2
        elif base in images_with:
            votes[f"*{images_with[base]}{ome}", f"{{own}}{suffix[0]}{ome}.*"] += 2
    doubled = sum(count > 1 for count in Counter(names).values())
    if doubled and (pair := _image_and_mask(sorted(endings))) is not None:
        votes[f"*.{pair[0]}", f"{{stem}}.{pair[1]}"] += 2 * doubled
    return votes


def _image_and_mask(endings: Sequence[str]) -> tuple[str, str] | None:
    """Which of two endings is the masks': npy or png, where the images have another one."""
    masks = next((ending for ending in ("npy", "png") if ending in endings), None)
    if len(endings) != 2 or masks is None:
        return None
    return next(ending for ending in endings if ending != masks), masks
