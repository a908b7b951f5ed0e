"""Classes of annotations that call them by name: the names chosen, their order, merged and ignored ones."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmentation.data.class_map import (
    BACKGROUND,
    IGNORE,
    ClassOptions,
    as_labels,
    names_and_palette,
    read_class_map,
)
from segmentation.data.files import first_of
from segmentation.errors import UserError, closest
from segmentation.types import IGNORE_INDEX, Classes

UNUSED = -1
"""The index of a name that is neither a class nor ignored: as if its shapes were not there."""

_BACKGROUNDS = frozenset({BACKGROUND, "_background_", "__background__"})
_IGNORED = "__ignore__"  # as labelme writes it
_KEYS = ("names", "merge", "ignore", "unlabelled")


@dataclass(frozen=True)
class NamedClasses:
    """The meaning of the names in annotations."""

    classes: Classes
    indices: Mapping[str, int]  # of each name: its class, `IGNORE_INDEX` or `UNUSED`
    unlabelled: int  # the label of pixels outside all shapes: the index of the background, or `IGNORE_INDEX`
    notes: tuple[str, ...]


def named_classes(options: ClassOptions, found: Sequence[str], root: Path, where: str) -> NamedClasses:
    """The classes of annotations with the names `found`: these, in this order, or those of `options.names`.

    Options may be in the file `options.classes`, or in a classes.yaml in `root`. `merge` maps a class to the names that
    become it, or "ignore" to names that are ignored, as those in `ignore` are. Names that are not in `names` are
    `UNUSED`. Where no name is a background, it is a new first class, except if unlabelled pixels are ignored. A
    background and one class are binary data. Messages call the annotations `where`.

    Raises `UserError` for options that mention other names or contradict each other, and for too many classes.
    """
    content = _described(options, root)
    merge, ignore = content.get("merge") or {}, content.get("ignore") or []
    _check_merge(merge, where)
    kinds = {name: BACKGROUND for name in found if name in _BACKGROUNDS}
    kinds |= {name: kind for kind, parts in merge.items() for name in parts}
    for option, mentioned in (
        ("merge", (name for parts in merge.values() for name in parts)),
        ("ignore", ignore),
    ):
        _check_names(mentioned, found, f"{where}: {option}")
    kind_of = {name: kinds.get(name, name) for name in found if name not in ignore and name != _IGNORED}
    kind_of = {name: kind for name, kind in kind_of.items() if kind != IGNORE or IGNORE not in merge}
    names, palette = names_and_palette(content, where)
    _check_names(names, {**dict.fromkeys(kind_of.values()), BACKGROUND: None}, f"{where}: names")
    unused = sorted({*kind_of.values()} - {*names, BACKGROUND}) if names else []
    if not names:
        names = tuple(sorted(dict.fromkeys(kind_of.values()), key=lambda name: name != BACKGROUND))
    ignores = content.get("unlabelled") == "ignore"
    if not ignores and BACKGROUND not in names:
        names, palette = (BACKGROUND, *names), ((0, 0, 0), *palette) if palette else ()
    try:
        classes = Classes(names, palette, binary=len(names) == 2 and names[0] == BACKGROUND)
    except UserError as error:
        raise UserError(
            f"{where}: {error} dataset.names and dataset.merge choose and merge classes."
        ) from error
    index_of = {name: index for index, name in enumerate(names)}
    indices = {
        name: index_of.get(kind_of[name], UNUSED) if name in kind_of else IGNORE_INDEX for name in found
    }
    left_out = f"Shapes of other names than those in dataset.names are left out: {first_of(unused, 8)}."
    unlabelled = IGNORE_INDEX if ignores else index_of[BACKGROUND]
    return NamedClasses(classes, indices, unlabelled, (left_out,) if unused else ())


def chosen_names(options: ClassOptions, root: Path) -> tuple[str, ...]:
    """The names in the options or the file; empty where neither has any. Raises `UserError` as `named_classes` does."""
    return names_and_palette(_described(options, root), "The classes")[0]


def _described(options: ClassOptions, root: Path) -> dict[str, Any]:
    """The names, merge, ignore, unlabelled and colours of the file, if there is one, and of the options."""
    content = _of_file_and_options(options, root)
    if as_labels(content.get("names")):
        raise UserError(
            f"names={content['names']} is for values in mask files: list the names in the annotations, as in"
            " names=[cat,dog]."
        )
    return content


def _of_file_and_options(options: ClassOptions, root: Path) -> dict[str, Any]:
    if options.labels is not None:
        raise UserError(
            "dataset.labels is for values in mask files: use dataset.names and dataset.merge here."
        )
    own = {key: value for key in _KEYS if (value := getattr(options, key))}
    path = options.classes or root / "classes.yaml"
    if options.classes is None and not path.is_file():
        return own
    content = read_class_map(path, _KEYS)
    if "labels" in content:
        raise UserError(f"{path} has labels, which are for values in mask files: use names and merge.")
    if content.get("unlabelled", "ignore") not in ("background", "ignore"):
        raise UserError(f"{path}: unlabelled={content['unlabelled']}: write background or ignore.")
    if not isinstance(content.get("ignore") or [], list):
        raise UserError(f"{path}: ignore={content['ignore']} is not a list: write [{content['ignore']}].")
    for key in own.keys() & content.keys():
        raise UserError(f"dataset.{key} and {path} both describe the classes: give one.")
    return content | own


def _check_merge(merge: Any, where: str) -> None:
    if not isinstance(merge, Mapping) or not all(
        isinstance(kind, str) and isinstance(parts, list) and all(isinstance(part, str) for part in parts)
        for kind, parts in merge.items()
    ):
        raise UserError(f"{where}: merge={merge}: write {{vehicle: [car, truck]}}.")
    for part, count in Counter(part for parts in merge.values() for part in parts).items():
        if count > 1:
            raise UserError(f"{where}: merge has '{part}' {count} times: each name becomes one class.")


def _check_names(names: Iterable[Any], known: Collection[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise UserError(
                f"{where} has {name!r}, which is no name in the annotations.{closest(name, known)}"
            )
