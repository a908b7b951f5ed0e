"""Class names, colours, labels and ignored values, from a classes.yaml or from the options."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator

from segmentation.data.files import Listing, contents, missing_folder
from segmentation.data.masks import ColourMask, IndexMask, LabelMask, any_with_eight_bits
from segmentation.errors import UserError, closest
from segmentation.reading import Loader, read_yaml
from segmentation.types import IGNORE_INDEX, Classes, Colour

_KEYS = ("names", "colours", "labels", "ignore", "merge", "unlabelled")
IGNORE = "ignore"
"""What a label or a merged class is called whose pixels are ignored."""

BACKGROUND = "background"
_NAMES = "write [sky, road] or {sky: [0, 0, 255], road: [128, 64, 128]}"


@dataclass(frozen=True)
class ClassMap:
    """The meaning of the values in the mask files."""

    classes: Classes
    labels: tuple[tuple[int, int], ...]  # value and index of its class; empty: values are indices
    coloured: bool  # whether masks may hold the colours; False: the palette is only for display
    ignored_labels: tuple[int, ...]
    ignored_colours: tuple[Colour, ...]
    more_colours: tuple[tuple[Colour, int], ...] = ()  # of merged classes, and the index of their class
    unlabelled: int | None = None  # index of values and colours that are no class; None: they are an error


def _as_list(value: Any) -> Any:
    """What is ignored may be one value."""
    return [value] if isinstance(value, int | str) else value


@dataclass(frozen=True, kw_only=True)
class ClassOptions:
    """The classes by the file `classes` (default: classes.yaml in the data's folder) or by `names` and `labels`.

    `names` is a list or a mapping of names to [R, G, B], `labels` maps the values in the masks to names (without, they
    are 0, 1, ...), `ignore` lists further labels (0..65535) and colours of ignored pixels. `merge` maps the name of
    a class to the names that become it; `unlabelled` says what pixels are that nobody labelled.

    Annotations that name their classes have no labels: `class_names.named_classes` reads these options for them.
    """

    classes: Path | None = None
    names: list[Any] | dict[Any, Any] | None = None
    labels: dict[Any, Any] | None = None
    ignore: Annotated[Sequence[Any], BeforeValidator(_as_list)] = ()
    merge: dict[str, list[str]] | None = None
    unlabelled: Literal["background", "ignore"] | None = None

    @property
    def described(self) -> bool:
        """Whether the options themselves say what the classes are."""
        return not (self.classes is None and self.names is None and self.labels is None)

    def read(self, root: Path) -> ClassMap:
        """The class map. Raises `UserError` where both describe the classes, and as `parse_class_map` does."""
        described = {
            key: value for key, value in (("names", self.names), ("labels", self.labels)) if value is not None
        }
        if described and self.classes is not None:
            raise UserError(
                f"dataset.{next(iter(described))} and dataset.classes={self.classes} both describe the classes: "
                "give one."
            )
        path = self.classes or root / "classes.yaml"
        content, where = (described, "dataset") if described else (read_class_map(path), str(path))
        for key, value in ("merge", self.merge), ("unlabelled", self.unlabelled):
            if value is not None and key in content:
                raise UserError(f"dataset.{key} and {path} both have {key}: give one.")
            content = content if value is None else {**content, key: value}
        return parse_class_map(content, where, self.ignore)


def mask_decoder(class_map: ClassMap, masks: Listing) -> LabelMask:
    """Reads the masks of a data set, of which `masks` are some or all."""
    return LabelMask(
        IndexMask(class_map.classes, class_map.ignored_labels, class_map.labels, class_map.unlabelled),
        ColourMask(class_map.classes, class_map.ignored_colours, class_map.more_colours, class_map.unlabelled)
        if class_map.coloured
        else None,
        any_with_eight_bits(masks),
    )


def read_class_map(path: Path, needs: Sequence[str] = ("names", "labels")) -> dict[str, Any]:
    """The mapping in a classes.yaml, for `parse_class_map`.

    Raises `UserError` for a file that is missing, is not YAML, holds other keys than names, colours (or colors),
    labels, ignore, merge and unlabelled, or none of those that it `needs`.
    """
    if not path.parent.is_dir():
        raise missing_folder(path.parent, "train/, val/ and classes.yaml")
    if not path.is_file():
        raise UserError(
            f"There is no {path} ({path.parent} holds {contents(path.parent)}): "
            "write 'names: [sky, road, ...]' into it."
        )
    content = read_yaml(path, _Loader)
    if isinstance(content, dict) and "colors" in content and "colours" not in content:
        content["colours"] = content.pop("colors")
    if not isinstance(content, dict) or content.keys().isdisjoint(needs):
        raise UserError(f"{path} has no 'names': write 'names: [sky, road, ...]' into it.")
    for key in content:
        if key not in _KEYS:
            raise UserError(f"{path} has an unknown key '{key}'.{closest(key, _KEYS)}")
    return content


def parse_class_map(content: Mapping[str, Any], where: str, ignore: Sequence[Any] = ()) -> ClassMap:
    """The class map of `content`: names, colours (list), labels, ignore (labels and colours), merge and unlabelled.

    Names are a list, a mapping to colours, or a mapping from the values in the masks, as `labels` is. Several values
    may be one class, and values and merged names may be "ignore". `ignore` is added to the content's own; messages name
    the file or option `where`.

    Raises `UserError` for anything else, for a class without a value, for ignored values that are of a class, and for
    ignored colours if the classes have no colours.
    """
    names, palette = names_and_palette(content, where)
    names, labels, ignored = _labels(content, names, where)
    own = content.get("ignore") or []
    if not isinstance(own, list):
        raise UserError(f"{where}: ignore={own} is not a list: write [{own}].")
    ignored += tuple(value for value in (*own, *ignore) if _is_integer(value, 2**16 - 1))
    ignored_colours = tuple(
        _colour(value, where, " or a label of 0..65535")
        for value in (*own, *ignore)
        if not _is_integer(value, 2**16 - 1)
    )
    if ignored_colours and not palette:
        raise UserError(
            f"{where}: ignore has the colour {ignored_colours[0]}, but no class has one: add colours."
        )
    index_of = dict(labels) or {index: index for index in range(len(names))}
    for value in ignored:
        if value in index_of:
            raise UserError(
                f"{where}: ignore has {value}, which is the label of '{names[index_of[value]]}': leave one out, or "
                "write labels: {1: NAME, 2: NAME, ...} where the classes begin at 1."
            )
    kinds = _merged(content.get("merge"), names, where)
    kept = names if kinds == list(names) else tuple(dict.fromkeys(kind for kind in kinds if kind != IGNORE))
    if kept != names:
        new = {kind: index for index, kind in enumerate(kept)}
        ignored += tuple(value for value, index in index_of.items() if kinds[index] == IGNORE)
        labels = tuple((value, new[kinds[index]]) for value, index in index_of.items() if kinds[index] in new)
    coloured = tuple(zip(palette, kinds, strict=True)) if len(palette) == len(names) else ()
    first = dict(reversed([(kind, colour) for colour, kind in coloured]))
    if coloured:
        ignored_colours += tuple(colour for colour, kind in coloured if kind == IGNORE)
        palette = tuple(first[kind] for kind in kept)
    more = tuple(
        (colour, kept.index(kind)) for colour, kind in coloured if kind in kept and first[kind] != colour
    )
    try:
        classes = Classes(kept, palette)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    unlabelled = _unlabelled(content.get("unlabelled"), kept, where)
    return ClassMap(classes, labels, bool(palette), ignored, ignored_colours, more, unlabelled)


def _merged(merge: Any, names: Sequence[str], where: str) -> list[str]:
    """The class that each name becomes."""
    if merge is None or len(set(names)) < len(names):  # which `Classes` refuses
        return list(names)
    if not isinstance(merge, Mapping) or not all(
        isinstance(kind, str) and isinstance(parts, list) and parts for kind, parts in merge.items()
    ):
        raise UserError(
            f"{where}: merge={merge} is no mapping of a class to names: write {{vehicle: [car, truck]}}."
        )
    kind_of: dict[str, str] = {}
    for kind, parts in merge.items():
        for part in parts:
            if part not in names:
                raise UserError(f"{where}: merge has '{part}', which is no class.{closest(str(part), names)}")
            if part in kind_of:
                raise UserError(f"{where}: merge has '{part}' twice: each name becomes one class.")
            kind_of[part] = kind
    for kind in merge:
        if kind in names and kind not in kind_of:
            kind_of[kind] = kind
    return [kind_of.get(name, name) for name in names]


def _unlabelled(choice: Any, names: Sequence[str], where: str) -> int | None:
    """The index of pixels that are of no class."""
    if choice is None:
        return None
    if choice == IGNORE:
        return IGNORE_INDEX
    if choice != BACKGROUND:
        raise UserError(f"{where}: unlabelled={choice}: write background or ignore.")
    if BACKGROUND not in names:
        raise UserError(f"{where}: unlabelled=background needs a class 'background': add it to names.")
    return list(names).index(BACKGROUND)


def _labels(
    content: Mapping[str, Any], names: tuple[str, ...], where: str
) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...], tuple[int, ...]]:
    """The names, which the labels give where nothing else does, the pairs of a value and its class, ignored values."""
    given, from_names = content.get("labels"), as_labels(content.get("names"))
    if given is not None and from_names is not None:
        raise UserError(f"{where}: names already holds the labels: leave out 'labels'.")
    if given is None and from_names is None:
        return names, (), ()
    labels = as_labels(given) if from_names is None else from_names
    if labels is None:
        raise UserError(
            f"{where}: labels={given} is no mapping of 0..65535 to names: write {{1: sky, 2: road}}."
        )
    ignored = tuple(value for value, name in labels.items() if name == IGNORE and name not in names)
    ordered = sorted((value, name) for value, name in labels.items() if value not in ignored)
    names = names or tuple(dict.fromkeys(name for _, name in ordered))
    for _, name in ordered:
        if name not in names:
            raise UserError(f"{where}: labels has '{name}', which is no class.{closest(name, names)}")
    for name in names:
        if name not in labels.values() and not (
            name == BACKGROUND and content.get("unlabelled") == BACKGROUND
        ):
            raise UserError(
                f"{where}: the class '{name}' has no label, so no mask can hold it: add it to labels."
            )
    return names, tuple((value, names.index(name)) for value, name in ordered), ignored


def as_labels(value: Any) -> dict[int, str] | None:
    """A mapping of values to names, which other tools call names; JSON quotes the values. None for anything else."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value.values()):
        return None
    numbers = {_unquoted(key): name for key, name in value.items()}
    return numbers if all(_is_integer(key, 2**16 - 1) for key in numbers) else None


def _unquoted(key: Any) -> Any:
    return int(key) if isinstance(key, str) and key.isdecimal() and len(key) <= 5 else key


def names_and_palette(content: Mapping[str, Any], where: str) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """The names and their colours, which are empty where the content has none.

    Raises `UserError` for anything but a list of names, or a mapping of names to [R, G, B].
    """
    names: Any = content.get("names")
    colours: Any = content.get("colours")
    if names is None or as_labels(names) is not None:
        names = []
    if isinstance(names, Mapping):
        if colours is not None:
            raise UserError(f"{where}: names already holds the colours: leave out 'colours'.")
        names, colours = list(names), list(names.values())
    if not isinstance(names, list):
        raise UserError(f"{where}: names={names} is not a list: {_NAMES}.")
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise UserError(
                f"{where}: {name!r} is not a class name: {_NAMES}, and quote words such as 'yes' and '1'."
            )
    if colours is not None and not isinstance(colours, list):
        raise UserError(f"{where}: colours={colours} is not a list: write [[R, G, B], ...], one per class.")
    return tuple(names), tuple(_colour(colour, where) for colour in colours or ())


def _colour(value: Any, where: str, or_else: str = "") -> Colour:
    if isinstance(value, list) and len(value) == 3 and all(_is_integer(part, 255) for part in value):
        red, green, blue = value
        return red, green, blue
    raise UserError(f"{where}: {value!r} is not a colour: write [R, G, B] of 0..255{or_else}.")


def _is_integer(value: Any, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= high


class _Loader(Loader):
    """Refuses repeated keys: YAML would keep the last one, and a class would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.most_common(1):
            if count > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key}' is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)
