"""Data sets by name. Nothing here imports torch, so that broken data is reported at once."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from segmentation.data.checks import check_samples
from segmentation.data.class_map import ClassOptions
from segmentation.data.dataset import SegmentationDataset, with_pixel_range
from segmentation.data.layouts import LAYOUTS
from segmentation.data.layouts.auto import recognise
from segmentation.data.mix import mix, read_sets
from segmentation.data.shapes import shapes
from segmentation.data.splits import SplitOptions, divide
from segmentation.errors import UserError, closest
from segmentation.options import call, create

DATASETS: dict[str, Callable[..., SegmentationDataset]] = {"shapes": shapes}
"""Data sets that divide themselves; the others are in `LAYOUTS`."""

AUTO = "auto"
"""The name of data whose layout is recognised."""

__all__ = [
    "AUTO",
    "DATASETS",
    "LAYOUTS",
    "SegmentationDataset",
    "create_dataset",
    "open_dataset",
    "recognised_options",
]

Options = TypeVar("Options")


def create_dataset(channels: int = 3, /, *, name: str, **options: Any) -> SegmentationDataset:
    """The data set of `LAYOUTS` or `DATASETS` with this name and these options, its images of `channels` bands.

    Raises `UserError` for a name or an option that does not exist and for data that cannot be used.
    """
    if name == AUTO:
        options, said = recognised_options(options)
        dataset = create_dataset(channels, **options)
        return dataclasses.replace(dataset, notes=(said, *dataset.notes))
    if name == "mix":
        sets, weights = read_sets(call("dataset", _mix_options, **options))
        return mix({label: create_dataset(channels, **each) for label, each in sets.items()}, weights)
    if name not in LAYOUTS:
        if name not in DATASETS:
            choices = closest(name, [*LAYOUTS, *DATASETS, "mix"])
            raise UserError(f"dataset={name} is unknown.{choices}", kind="option")
        return create("dataset", DATASETS, name, channels, **options)
    reader = LAYOUTS[name]
    split = _taken(SplitOptions, options)
    takes_classes = any(
        parameter.kind is parameter.POSITIONAL_ONLY
        for parameter in inspect.signature(reader).parameters.values()
    )
    found = call("dataset", reader, *([_taken(ClassOptions, options)] if takes_classes else []), **options)
    return divide(found, split, channels)


def recognised_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The options of `dataset=auto` -> those of the layout that `root` has, with its name; and a line that says so.

    Raises `UserError` without `root`, and where `recognise` does.
    """
    given = {key: value for key, value in options.items() if key != "name"}
    root = call("dataset", _root, **{key: given[key] for key in ("root",) if key in given})
    found = recognise(root, _taken(ClassOptions, dict(given)))
    reader = inspect.signature(LAYOUTS[found.name]).parameters.values() if found.name in LAYOUTS else ()
    if not any(parameter.kind is parameter.POSITIONAL_ONLY for parameter in reader):
        unused = {field.name: field.default for field in dataclasses.fields(ClassOptions)}
        given = {
            key: value for key, value in given.items() if key not in unused or value not in (unused[key], [])
        }
    return {"name": found.name, **given, **found.options}, found.said(root)


def _root(*, root: Path) -> Path:
    return root


def _mix_options(*, sets: Any) -> Any:
    return sets


def _taken(kind: type[Options], options: dict[str, Any]) -> Options:
    """The options of this kind, which are removed from all options."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return call("dataset", kind, **{name: options.pop(name) for name in names if name in options})


def open_dataset(
    channels: int = 3, pixel_range: Any = "auto", /, *, name: str, **options: Any
) -> SegmentationDataset:
    """`create_dataset`, `with_pixel_range`, then `check_samples`, whose notes it gets: every run starts from this."""
    dataset = with_pixel_range(create_dataset(channels, name=name, **options), pixel_range)
    return dataclasses.replace(dataset, notes=(*dataset.notes, *check_samples(dataset)))
