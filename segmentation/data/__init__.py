"""Data sets by name. Nothing here imports torch, so that broken data is reported at once."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from segmentation.data.checks import check_samples
from segmentation.data.class_map import ClassOptions
from segmentation.data.dataset import SegmentationDataset, with_pixel_range
from segmentation.data.geo import geotiff
from segmentation.data.layouts import LAYOUTS
from segmentation.data.layouts.auto import recognise
from segmentation.data.mix import mix, read_sets
from segmentation.data.shapes import shapes
from segmentation.data.splits import SplitOptions, divide
from segmentation.errors import UserError, closest
from segmentation.options import call

DATASETS: dict[str, Callable[..., SegmentationDataset]] = {"geotiff": geotiff, "shapes": shapes}
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
        own = DATASETS[name]
        return call("dataset", own, channels, *_described(own, options), **options)
    reader, split = LAYOUTS[name], _taken(SplitOptions, options)
    return divide(call("dataset", reader, *_described(reader, options), **options), split, channels)


def _described(reader: Callable[..., Any], options: dict[str, Any]) -> list[ClassOptions]:
    """The classes, for a reader with a parameter for them; `options` are then without these.

    An option that the reader itself has is its own: `labels` of geotiff.
    """
    if not _takes_classes(reader):
        return []
    own = {name: options.pop(name) for name in inspect.signature(reader).parameters if name in options}
    described = _taken(ClassOptions, options)
    options |= own
    return [described]


def _takes_classes(reader: Callable[..., Any]) -> bool:
    parameters = inspect.signature(reader).parameters.values()
    return any(
        parameter.kind is parameter.POSITIONAL_ONLY and parameter.annotation is ClassOptions
        for parameter in parameters
    )


def recognised_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The options of `dataset=auto` -> those of the layout that `root` has, with its name; and a line that says so.

    Raises `UserError` without `root`, and where `recognise` does.
    """
    unset = {"threshold": "auto"}  # which not every layout has
    given = {key: value for key, value in options.items() if key != "name" and unset.get(key) != value}
    root = call("dataset", _root, **{key: given[key] for key in ("root",) if key in given})
    found = recognise(root, _taken(ClassOptions, dict(given)))
    if found.name not in LAYOUTS or not _takes_classes(LAYOUTS[found.name]):
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
