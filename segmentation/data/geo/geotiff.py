"""`geotiff`: images of the earth with labels as vectors or rasters, divided by area, by file or by folder."""

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from segmentation.data.class_map import ClassOptions
from segmentation.data.dataset import SegmentationDataset
from segmentation.data.files import first_of
from segmentation.data.geo.areas import Block, blocks, coverage, divide, leakage, square_metres
from segmentation.data.geo.labels import labelled
from segmentation.data.geo.samples import AreaDataset, undeclared_no_data
from segmentation.data.geo.scenes import Header, Scene, find_scenes, is_address, named, read_headers
from segmentation.data.geo.vectors import Burnt, burn, read_outlines
from segmentation.data.splits import SPLITS, check_fractions
from segmentation.errors import UserError
from segmentation.options import checked
from segmentation.types import Area

_SERVES = (("train", "all"), ("val", "all"), ("test", "val", "all"))  # what serves as train, val and test
Paths = str | Annotated[list[str], Field(min_length=1)]
_PATHS = ("images", "labels", "val_images", "val_labels", "test_images", "test_labels", "extent")
_STEP = 16  # pixels at which the data and the extent of a block are looked at


def geotiff(
    channels: int,
    described: ClassOptions,
    /,
    *,
    root: Path = Path(),
    images: Paths,
    labels: Paths,
    val_images: Paths | None = None,
    val_labels: Paths | None = None,
    test_images: Paths | None = None,
    test_labels: Paths | None = None,
    bands: list[Annotated[int, Field(ge=1)]] | None = None,
    attribute: str | None = None,
    layer: str | None = None,
    all_touched: bool = False,
    extent: Paths | None = None,
    resolution: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
    split: Literal["area", "file", "folder", "whole"] = "area",
    block: Annotated[int, Field(ge=128, le=8192)] = 2048,
    buffer: Annotated[int, Field(ge=0)] = 512,
    fractions: Annotated[list[float], Field(min_length=3, max_length=3)] = [0.7, 0.15, 0.15],  # noqa: B006
    seed: int = 0,
) -> SegmentationDataset:
    """GeoTIFFs (paths, patterns, addresses) as one or more scenes, with labels from vector files or rasters.

    `split` divides blocks of them by area, files or folders; `whole` is for evaluation, with everything in each split.
    With `val_images` or `test_images` these are taken for it. `conf/dataset/geotiff.yaml` says what each option is for.

    Raises `UserError` for files that cannot be read, for labels that lie elsewhere, and for options that do not fit.
    """
    if bands is not None and len(bands) != channels:
        raise UserError(
            f"dataset.bands={bands}: the model takes data.channels={channels} bands: give equally many."
        )
    given = {"train": (images, labels), "val": (val_images, val_labels), "test": (test_images, test_labels)}
    files = {
        part: _Files.found(root, part, pictures, labels if answers is None else answers)
        for part, (pictures, answers) in given.items()
        if pictures is not None
    }
    for part, (pictures, answers) in given.items():
        if pictures is None and answers is not None:
            raise UserError(
                f"dataset.{part}_labels is given without dataset.{part}_images: give both, or neither."
            )
    scenes: list[Scene] = []
    groups: list[tuple[str, str]] = []
    for part, own in files.items():
        headers = dict(zip(own.images, read_headers(own.images), strict=True))
        _check_bands(headers.values(), channels, bands)
        for key, names in own.grouped(split).items():
            found = find_scenes([headers[name] for name in names], resolution=resolution, near=buffer)
            scenes += found
            groups += [(part, key)] * len(found)
    scenes = named(scenes)
    classes, answers_of, notes = labelled(
        described,
        root,
        {part: own.labels for part, own in files.items()},
        scenes,
        [part for part, _ in groups],
        layer=layer,
        attribute=attribute,
        all_touched=all_touched,
    )
    extents: list[Burnt | None] = [None] * len(scenes)
    if extent is not None:
        known = read_outlines(_found_files(root, extent, "dataset.extent"))
        extents = [burn(known, scene, 1, 0, all_touched=False) for scene in scenes]

    def covered(area: Area) -> float:
        return coverage(scenes[area.scene], area, extents[area.scene], _STEP)

    held = [each for each in blocks(scenes, block) if covered(each.area) > 0]
    without = files.keys() - {groups[each.area.scene][0] for each in held}
    if without:
        where = "" if extent is None else " in dataset.extent"
        raise UserError(
            f"{first_of(files[min(without)].images)}: no data{where}: give images with data"
            + ("." if extent is None else ", or the extent of their labels.")
        )
    areas = _divided(held, groups, split, fractions=fractions, seed=seed, buffer=buffer)
    whole = AreaDataset(scenes, answers_of, extents, (), channels, None if bands is None else tuple(bands))
    parts = {part: replace(whole, areas=own) for part, own in areas.items()}
    said = _said(whole, areas)
    train, val, test = (parts[next(part for part in order if part in parts)] for order in _SERVES)
    often = np.array([covered(area) for area in train.areas])
    return SegmentationDataset(
        classes,
        train,
        val,
        test,
        notes=(*notes, *said),
        channels=channels,
        often=None if (often == 1).all() else often,
    )


@dataclass(frozen=True)
class _Files:
    """The images of a split, and the files of their labels."""

    images: list[str]
    labels: list[str]

    @classmethod
    def found(cls, root: Path, part: str, images: Paths, labels: Paths) -> "_Files":
        prefix = "" if part == "train" else f"{part}_"
        answers = _found_files(root, labels, f"dataset.{prefix}labels")
        # Labels may lie among the images, and be found by their pattern too, perhaps as another path.
        known = {Path(name).resolve() for name in answers}
        found = _found_files(root, images, f"dataset.{prefix}images")
        pictures = [name for name in found if Path(name).resolve() not in known]
        if not pictures:
            raise UserError(
                f"dataset.{prefix}images={images} finds the labels only: give a pattern of the images."
            )
        return cls(pictures, answers)

    def grouped(self, split: str) -> dict[str, list[str]]:
        """The images that may be one scene, by what they have in common."""
        groups: dict[str, list[str]] = {}
        for name in self.images:
            key = {"file": name, "folder": name.rpartition("/")[0]}.get(split, "")
            groups.setdefault(key, []).append(name)
        return groups


def _found_files(root: Path, given: Paths, option: str) -> list[str]:
    """The files of paths and patterns below `root`, in order; addresses as they are."""
    found: list[str] = []
    for each in [given] if isinstance(given, str) else given:
        if is_address(each):
            found.append(each)
            continue
        if each.count("**") > 1:  # a stranger's checkpoint may hold a pattern that takes for ever
            raise UserError(f"{option}={each} has '**' more than once: leave one of them.")
        path = Path(each).expanduser()
        matching = glob.glob(str(path), root_dir=root, recursive=True)  # noqa: PTH207 - a root may hold brackets
        found_here = [root / path] if (root / path).is_file() else [root / name for name in sorted(matching)]
        names = [str(name) for name in found_here if name.is_file()]
        if not names:
            raise UserError(f"{option}={each} finds no file in {root.absolute()}: correct it.")
        found += names
    return list(dict.fromkeys(found))


def _check_bands(headers: Iterable[Header], channels: int, bands: Sequence[int] | None) -> None:
    for header in headers:
        count = len(header.bands)
        has = f"{header.name} has {count} bands"
        if header.alpha is not None:  # GDAL says so of any fourth band of 8 bits
            has += f" and alpha ('gdal_edit.py -colorinterp_{header.alpha} undefined FILE' if that is a band, too)"
        if bands is not None and not set(bands) <= set(header.bands):
            raise UserError(f"dataset.bands={list(bands)}: {has}: number them from 1.")
        if bands is None and count != channels and not (count == 1 and channels == 3):
            raise UserError(
                f"{has}, and the model takes data.channels={channels}: give"
                f" data.channels={count}, or choose and order them, as in dataset.bands=[1,2,3]."
            )


def _divided(
    held: Sequence[Block],
    groups: Sequence[tuple[str, str]],
    split: str,
    *,
    fractions: Sequence[float],
    seed: int,
    buffer: int,
) -> dict[str, tuple[Area, ...]]:
    """train, and val and test where the images are divided or given for them."""
    given = {part for part, _ in groups}
    own = {part: [block for block in held if groups[block.area.scene][0] == part] for part in SPLITS}
    areas = {part: tuple(block.area for block in blocks) for part, blocks in own.items() if part in given}
    if split == "whole":
        if len(given) > 1:
            raise UserError(
                "dataset.split=whole takes everything in dataset.images: leave val_images and test_images out."
            )
        return {"all": areas["train"]}
    check_fractions(fractions)
    wanted = {
        part: share
        for part, share in zip(SPLITS, fractions, strict=True)
        if part == "train" or part not in given
    }
    if "val" in given and "test" not in given:  # val serves as test, as in other layouts
        del wanted["test"]
    if len(wanted) == 1:
        return areas
    names = [
        f"{block.area.scene} {block.place}" if split == "area" else groups[block.area.scene][1]
        for block in own["train"]
    ]
    total = sum(wanted.values())
    shares = {part: share / total for part, share in wanted.items()}
    divided = divide(own["train"], names, shares=shares, seed=seed, buffer=buffer)
    return {**areas, **{part: tuple(some) for part, some in divided.items()}}


def _said(whole: AreaDataset, areas: Mapping[str, Sequence[Area]]) -> tuple[str, ...]:
    """Notes on the scenes, on what each split has of them, and on what splits have in common."""
    scenes = whole.scenes
    files = sum(len(scene.sources) for scene in scenes)
    notes = [
        f"{_count(files, 'file')} in {_count(len(scenes), 'scene')}, {_side(scenes[0])} a pixel: "
        + "; ".join(
            f"{part} {_count(len(own), 'area')}, {_square(square_metres(scenes, own))}"
            for part, own in areas.items()
        )
        + "."
    ]
    if "test" not in areas and len(areas) > 1:
        notes.append("There are no test images: val serves as test.")
    burnt = {number: each for number, each in enumerate(whole.labels) if isinstance(each, Burnt)}
    for each in leakage(scenes, areas, burnt) if len(areas) > 1 else ():
        apart = f"{each.metres / 1000:.1f} km" if each.metres >= 1000 else f"{each.metres:.0f} m"
        shared = f"{each.pixels} pixels and {each.outlines} outlines in common"
        scenes_of = ({area.scene for area in areas[part]} for part in (each.one, each.other))
        if each.pixels:
            where = f"the scores of {each.other} are too good, it shares places with {each.one}"
        elif set.isdisjoint(*scenes_of):
            where = f"{each.other} is of another place than {each.one}"
        else:
            where = f"{each.one} and {each.other}"
        notes.append(f"{where}: {apart} apart, {shared}.")
    striped = [source.header.name for scene in scenes for source in scene.sources if not source.header.tiled]
    if striped:
        notes.append(
            f"{_count(len(striped), 'file')} stored in strips ({first_of(striped, 1)}), so that a window reads whole"
            " rows: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE makes it fast."
        )
    return (*notes, *undeclared_no_data(scenes))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _side(scene: Scene) -> str:
    """`0.5 m`: the side of a pixel on the ground."""
    return f"{_metres(scene):.3g} m"


def _metres(scene: Scene) -> float:
    height, width = scene.grid.size
    area = Area(0, 0, 0, height, width)
    return float((square_metres([scene], [area]) / (height * width)) ** 0.5)


def _square(metres: float) -> str:
    return f"{metres / 1e6:.3g} km²" if metres >= 1e5 else f"{metres:.0f} m²"


def evaluation_options(trained: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The options to evaluate with: those of the training, or all of other images where `images` is typed."""
    if "images" not in typed:
        own = [trained.get(key) for key in _PATHS if key not in typed]
        far = [
            name
            for each in own
            for name in ([each] if isinstance(each, str) else each or ())
            if is_address(name)
        ]
        if far:  # a stranger's checkpoint could have any address opened
            raise UserError(
                f"The checkpoint was trained on {first_of(far)}: no address is opened that is not typed: give"
                " dataset.images and dataset.labels, and if it was trained on dataset=mix, dataset=geotiff."
            )
        return {**trained, **typed}
    if "labels" not in typed:
        raise UserError(f"dataset.images={typed['images']} are other images: give their dataset.labels, too.")
    kept = {key: value for key, value in trained.items() if key not in _PATHS}
    return {**kept, "split": "whole", **typed}


def metres_per_pixel(trained: Mapping[str, Any]) -> float:
    """Of the first image that the options of a training name, on the ground. Raises `UserError` if it is not there."""
    plain = {key: value for key, value in evaluation_options(trained, {}).items() if key != "name"}
    options = checked("dataset", geotiff, plain)
    files = _found_files(Path(options.get("root", "")), options["images"], "dataset.images")
    scenes = find_scenes(read_headers(files[:1]), resolution=options.get("resolution"), near=0)
    return _metres(scenes[0])
