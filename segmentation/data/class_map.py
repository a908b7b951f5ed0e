"""Class names, colours and ignored values, from a classes.yaml or from the options."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segmentation.data.files import contents, missing_folder
from segmentation.errors import UserError, closest
from segmentation.types import Classes, Colour

_KEYS = ("names", "colours", "ignore")
_NAMES = "write [sky, road] or {sky: [0, 0, 255], road: [128, 64, 128]}"


@dataclass(frozen=True)
class ClassMap:
    """The meaning of the values in the mask files."""

    classes: Classes
    coloured: bool  # whether masks may hold the colours; False: the palette is only for display
    ignored_labels: tuple[int, ...]
    ignored_colours: tuple[Colour, ...]


def read_class_map(path: Path) -> dict[str, Any]:
    """The mapping in a classes.yaml, for `parse_class_map`.

    Raises `UserError` for a file that is missing, is not YAML, or holds other keys than names, colours and ignore.
    """
    if not path.parent.is_dir():
        raise missing_folder(path.parent, "train/, val/ and classes.yaml")
    if not path.is_file():
        raise UserError(
            f"There is no {path} ({path.parent} holds {contents(path.parent)}): "
            "write 'names: [sky, road, ...]' into it."
        )
    try:
        content = yaml.load(path.read_bytes(), _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        cause = getattr(error, "problem", None) or "it cannot be read"
        raise UserError(f"{path}{line}: {cause}: correct the YAML.") from error
    if not isinstance(content, dict) or "names" not in content:
        raise UserError(f"{path} has no 'names': write 'names: [sky, road, ...]' into it.")
    for key in content:
        if key not in _KEYS:
            raise UserError(f"{path} has an unknown key '{key}'.{closest(key, _KEYS)}")
    return content


def parse_class_map(content: Mapping[str, Any], where: str, ignore: Sequence[Any] = ()) -> ClassMap:
    """The class map of `content`: names (list, or mapping to colours), colours (list) and ignore (labels and colours).

    `ignore` is added to the content's own; messages name the file or option `where`. Raises `UserError` for
    anything else, and for ignored colours if the classes have no colours.
    """
    names, palette = _names_and_palette(content, where)
    own = content.get("ignore") or []
    if not isinstance(own, list):
        raise UserError(f"{where}: ignore={own} is not a list: write [{own}].")
    labels = tuple(value for value in (*own, *ignore) if _is_integer(value, 2**16 - 1))
    ignored_colours = tuple(
        _colour(value, where, " or a label of 0..65535")
        for value in (*own, *ignore)
        if not _is_integer(value, 2**16 - 1)
    )
    if ignored_colours and not palette:
        raise UserError(
            f"{where}: ignore has the colour {ignored_colours[0]}, but no class has one: add colours."
        )
    try:
        return ClassMap(Classes(names, palette), bool(palette), labels, ignored_colours)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _names_and_palette(content: Mapping[str, Any], where: str) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    names: Any = content["names"]
    colours: Any = content.get("colours")
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


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses repeated keys: YAML would keep the last one, and a class would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key}' is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)
