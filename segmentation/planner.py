"""What a run's config leaves to the data: sizes, batch, epochs and balance that fit them, as plain values.

`plan=auto` chooses options that were given neither on the command line nor by an experiment or the data set's own file.
Each choice is one line of the log, with its reason; the values stand in config.yaml, and a resumed run keeps them.
Nothing here imports torch.
"""

import logging
import math
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segmentation.config import read_training_settings
from segmentation.data import SegmentationDataset, open_dataset
from segmentation.data.cache import cache_folder
from segmentation.data.dataset import FileDataset
from segmentation.data.survey import Survey, class_weights, count_classes, described_weights, survey
from segmentation.errors import UserError
from segmentation.library_warnings import library_warnings_hidden
from segmentation.machine import free_memory
from segmentation.reading import read_yaml

log = logging.getLogger(__name__)

Config = dict[str, Any]

CELL = 32
"""Sizes are multiples of this, the coarsest stride of the backbones."""

_SIDE, _SIDE_ON_GPU = 256, 512  # of windows and of resized images: what trains in reasonable time
_MOST_SHRINKING = 2.0  # images of which a side would shrink by more are not resized as a whole
_LOST = 8.0  # pixels: smaller objects are lost in feature maps with cells of 8 or 16 pixels
_FINE = 16.0  # pixels: objects below are found better at stride 8 than at 16
_MOST_ENLARGING = 1.25  # images of which a side would grow by more are padded instead
_BATCH = 8
_LEAST_BATCH = 2  # batch norm needs several values
# Memory of a training on processors: of each pixel in a batch, by output stride, and besides. Measured were 2200 bytes
# (ResNet-50) to 3500 (ResNet-101) at 16, 4600 at 8, and 1.5 GB besides.
_BYTES_A_PIXEL = {16: 4000, 8: 8000}
_FIXED_BYTES = 2e9
_SHARE_OF_MEMORY = 0.8  # of what is free
_STEPS = 1500  # optimizer steps of a training, mostly from scratch
_EPOCHS = (5, 200)
_RARE = 0.01  # the share of a class below which it is rare
_FEW_HOLD = 0.2  # the share of the masks below which a class is rare
_MOST_COUNTED = 20_000  # masks: reading all of them takes a minute or so
_FEW_IMAGES = 200  # with fewer, stronger augmentation: the values of conf/augmentation/standard.yaml
_STRONGER: Config = {"scale": [0.5, 2.0], "colour": 0.5}
_CACHED_FROM = 4  # windows in an image: from here on decoding it for one of them is most of the work
_SHARE_OF_DISK = 0.5  # that a planned cache may take
# In these frequent classes outweigh rare ones.
_PIXEL_LOSSES = ("cross_entropy", "bce", "ce_dice", "bce_dice")
_DILATED = (
    "resnet",
    "resnext",
    "wide_resnet",
    "mobilenet",
    "regnet",
    "densenet",
)  # backbones that can do stride 8


class Choice(NamedTuple):
    """One planned option."""

    key: str
    value: Any
    reason: str


@library_warnings_hidden()
def prepare(config: Mapping[str, Any], folder: Path) -> tuple[Config, SegmentationDataset]:
    """The data set of the run in `folder`, and the config that `complete` makes.

    Raises `UserError` for options that are not possible and for data that cannot be used.
    """
    settings = read_training_settings(config)
    pixel_range: Any = settings.data.pixel_range
    if settings.resume is not None and pixel_range == "auto":
        from segmentation.checkpoint import read_pixel_range  # imports torch

        pixel_range = read_pixel_range(folder / "checkpoints" / "last.ckpt")
    return complete(config, open_dataset(settings.data.channels, pixel_range, **settings.dataset))


def complete(config: Mapping[str, Any], dataset: SegmentationDataset) -> tuple[Config, SegmentationDataset]:
    """The config with plain values for what was left to the data; the data set with what its options need.

    `config["given"]` lists the options that are not to be planned; without it nothing is. `planned` lists those that
    were. Raises `UserError` where `class_weights` does, and for options that are not possible.
    """
    finished = deepcopy(dict(config))
    given = finished.pop("given", None)
    finished["planned"] = []
    if finished["resume"] is not None:
        _keep_plan(finished, Path(finished["resume"]), given or ())
    elif finished["plan"] == "auto" and given is not None and (seen := survey(dataset)) is not None:
        for choice in plan(finished, seen, dataset, given):
            log.info("plan: %s=%s: %s", choice.key, choice.value, choice.reason)
    settings = read_training_settings(finished)
    given_data, window = settings.dataset, max(settings.data.size)
    if (
        given_data.get("name") == "geotiff"
        and given_data.get("split") == "area"
        and given_data["buffer"] < window
    ):
        log.info(
            "note: dataset.buffer=%d is narrower than a window of %d pixels, so that places beside each other may be in"
            " two splits.",
            given_data["buffer"],
            window,
        )
    weighs = settings.loss.get("class_weights") == "auto"
    if weighs or settings.data.sampler == "balanced":
        dataset = replace(dataset, counts=count_classes(dataset.train, len(dataset.classes)))
    if weighs:
        assert dataset.counts is not None
        weights = class_weights(dataset.counts)
        log.info("loss.class_weights: %s", described_weights(weights, dataset.classes))
        _set(finished, "loss.class_weights", weights)
    return finished, dataset


def plan(
    config: Config, seen: Survey, dataset: SegmentationDataset, given: Collection[str] = ()
) -> Iterator[Choice]:
    """Sets the options of the config that fit the training images, but for those that are `given`; yields each."""
    for choose in (_size, _stride, _batch_size, _balance, _cache, _epochs, _augmentation):
        for choice in choose(config, seen, dataset, given):
            if not _is_given(choice.key, given):
                _set(config, choice.key, choice.value)
                yield choice


def _set(config: Config, key: str, value: Any) -> None:
    section, _, option = key.rpartition(".")
    (config[section] if section else config)[option] = value
    config["planned"] = sorted({*config["planned"], key})


def _keep_plan(config: Config, folder: Path, given: Collection[str]) -> None:
    """Sets what was planned when the run in the folder began, by its config.yaml, but for values that are given now."""
    try:
        earlier = read_yaml(folder / "config.yaml")
        for key in earlier.get("planned", []):
            section, _, option = key.rpartition(".")
            now = (config[section] if section else config)[option]
            if now == "auto" or not _is_given(key, given):
                _set(config, key, (earlier[section] if section else earlier)[option])
    except (OSError, UserError, KeyError, TypeError, AttributeError):
        return  # a damaged config is reported where the run is resumed


def _is_given(key: str, given: Collection[str]) -> bool:
    """Whether an option or its group was given."""
    return any(key == each or key.startswith(f"{each}.") for each in given)


def _size(
    config: Config, seen: Survey, dataset: SegmentationDataset, given: Collection[str]
) -> Iterator[Choice]:
    side, limit = _side(config)
    height, width = seen.usual_size
    images, small = f"images of {_sizes(seen)}", seen.small_object
    if _is_given("data.size", given):
        goal = " to data.size"
        shrink = max(1.0, height / config["data"]["size"][0], width / config["data"]["size"][1])
    else:
        goal = f" to {side}x{side}"
        shrink = max(1.0, math.sqrt(height * width) / side, seen.longest_side / (side * math.sqrt(2)))
    whole = [_cells(each / shrink) for each in (height, width)]
    windows = [min(side, _cells(each)) for each in seen.sizes.max(axis=0)]
    lost = small is not None and shrink > 1 and small / shrink < _LOST
    grown = max(new / max(1, each / shrink) for new, each in zip(whole, (height, width), strict=True))
    if shrink > _MOST_SHRINKING or lost:
        would = f"objects of {small:.0f} pixels would be lost" if lost else f"{shrink:.1f} times smaller"
        yield Choice("data.resize", False, f"{images} resized{goal}: {would}, so windows of them")
    elif shrink == 1 and grown > _MOST_ENLARGING and not _is_given("data.size", given):
        reason = f"{images} would grow {grown:.1f} times to multiples of {CELL}, so they are padded"
        yield Choice("data.resize", False, reason)
    else:
        how = "as they are" if shrink == 1 else f"{shrink:.1f} times smaller"
        objects = "" if small is None else f", small objects of {small / shrink:.0f} pixels then"
        yield Choice("data.resize", True, f"{images} fit whole, {how}{objects}")
    if config["data"]["resize"]:
        yield Choice("data.size", whole, f"{images}, in multiples of {CELL}{limit}")
    else:
        yield Choice("data.size", windows, f"the windows, at the images' own resolution{limit}")


def _side(config: Config) -> tuple[int, str]:
    """The side of windows and of resized images, and why it is no larger: least batches of it fit in memory."""
    side = usual = _SIDE_ON_GPU if _has_gpu(config) else _SIDE
    while side > CELL and _images_in_memory(config, side, side) < _LEAST_BATCH:
        side -= CELL
    return side, "" if side == usual else f", no more for {_memory()}"


def _images_in_memory(config: Config, height: int, width: int) -> float:
    """How many images of a batch have room in the free memory; that of GPUs is not known."""
    if _has_gpu(config):
        return math.inf
    stride = 8 if config["output_stride"] == 8 else 16
    room = _SHARE_OF_MEMORY * free_memory() - _FIXED_BYTES
    return max(0.0, room) / (height * width * _BYTES_A_PIXEL[stride])


def _memory() -> str:
    return f"{free_memory() / 1e9:.1f} GB of free memory"


def _sizes(seen: Survey) -> str:
    """`480x360 pixels`, and the range where they differ."""
    height, width = seen.usual_size
    (low_height, low_width), (high_height, high_width) = seen.sizes.min(axis=0), seen.sizes.max(axis=0)
    if (low_height, low_width) == (high_height, high_width):
        return f"{width}x{height} pixels"
    return f"about {width}x{height} pixels ({low_width}x{low_height} to {high_width}x{high_height})"


def _counted(images: int) -> str:
    return f"{images} training image{'s' if images != 1 else ''}"


def _cells(pixels: float) -> int:
    """The next multiple of `CELL`, or the one before it where that is near, which it never is to small images."""
    cells = pixels / CELL
    return max(1, math.ceil(cells - 0.25 if cells > 2 else cells)) * CELL


def _has_gpu(config: Config) -> bool:
    return config["trainer"].get("accelerator") != "cpu" and Path("/proc/driver/nvidia/version").exists()


def shrinking(config: Mapping[str, Any], seen: Survey) -> float:
    """How many times smaller usual images become, 1 where they are not resized."""
    if not config["data"]["resize"]:
        return 1.0
    return max(1.0, *(side / new for side, new in zip(seen.usual_size, config["data"]["size"], strict=True)))


def _per_epoch(config: Config, seen: Survey) -> int:
    """Images or windows in an epoch."""
    if config["data"]["resize"]:
        return seen.images
    height, width = config["data"]["size"]
    areas = seen.sizes.prod(axis=1) / (height * width)
    return round(seen.images * float(np.maximum(1, np.rint(areas)).mean()))


def _batch_size(
    config: Config, seen: Survey, dataset: SegmentationDataset, given: Collection[str]
) -> Iterator[Choice]:
    height, width = config["data"]["size"]
    fitting = max(_LEAST_BATCH, min(_BATCH, _per_epoch(config, seen) // 4))
    room = max(_LEAST_BATCH, _images_in_memory(config, height, width))
    if room < fitting:
        yield Choice(
            "data.batch_size", int(room), f"as many of {width}x{height} pixels as fit in {_memory()}"
        )
    elif fitting < _BATCH:
        yield Choice("data.batch_size", fitting, f"{_counted(seen.images)}, several steps an epoch")


def _stride(
    config: Config, seen: Survey, dataset: SegmentationDataset, given: Collection[str]
) -> Iterator[Choice]:
    small = seen.small_object
    name = str(config["backbone"].get("name", ""))
    timms = config["backbone"].get("source") == "timm" and name.startswith("densenet")  # cannot be dilated
    if small is None or small / shrinking(config, seen) >= _FINE or timms or not name.startswith(_DILATED):
        return
    size = small / shrinking(config, seen)
    yield Choice("output_stride", 8, f"small objects of {size:.0f} pixels: finer feature maps, though slower")


def _balance(
    config: Config, seen: Survey, dataset: SegmentationDataset, given: Collection[str]
) -> Iterator[Choice]:
    occurring = np.flatnonzero(seen.shares > 0)
    rarest = min(occurring, key=seen.shares.__getitem__, default=None)
    if rarest is None or seen.images > _MOST_COUNTED:
        return
    name, share, held = dataset.classes.names[rarest], seen.shares[rarest], seen.holding[rarest]
    if (share < _RARE and not config["data"]["resize"]) or held < _FEW_HOLD:
        reason = f"'{name}' is in {held:.0%} of the masks and has {share:.2%} of the pixels"
        yield Choice("data.sampler", "balanced", reason)
    if share < _RARE and config["loss"].get("name") in _PIXEL_LOSSES:
        reason = f"'{name}' has {share:.2%} of the pixels: a model that never predicts it would look good"
        yield Choice("loss.class_weights", "auto", reason)


def _cache(
    config: Config, seen: Survey, dataset: SegmentationDataset, given: Collection[str]
) -> Iterator[Choice]:
    windows = _per_epoch(config, seen) / seen.images
    # Only files are decoded as a whole for each window.
    if config["data"]["resize"] or windows < _CACHED_FROM or not isinstance(dataset.train, FileDataset):
        return
    area = seen.sizes.prod(axis=1).mean()
    needed = (seen.images + len(dataset.val)) * area * (dataset.channels + 1)
    folder = next(folder for folder in (cache_folder(), *cache_folder().parents) if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if needed < _SHARE_OF_DISK * free and os.access(folder, os.W_OK):
        reason = f"an image is read for about {windows:.0f} windows an epoch: decoded once, {needed / 1e9:.1f} GB in"
        yield Choice("data.cache", "disk", f"{reason} {cache_folder()}")


def _epochs(
    config: Config, seen: Survey, dataset: SegmentationDataset, given: Collection[str]
) -> Iterator[Choice]:
    steps = math.ceil(_per_epoch(config, seen) / config["data"]["batch_size"])
    low, high = _EPOCHS
    epochs = min(high, max(low, math.ceil(_STEPS / steps)))
    yield Choice("trainer.max_epochs", epochs, f"{steps} steps each, {steps * epochs} in all")


def _augmentation(
    config: Config, seen: Survey, dataset: SegmentationDataset, given: Collection[str]
) -> Iterator[Choice]:
    if seen.images < _FEW_IMAGES:
        for option, value in _STRONGER.items():
            yield Choice(f"augmentation.{option}", value, f"{_counted(seen.images)}, which is few")
