"""Image and mask change together, repeatably, within the stated ranges, for any number of channels."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from segmentation.config import DataSettings
from segmentation.data import open_dataset
from segmentation.data.augmentation import (
    evaluation_transform,
    training_transform,
)
from segmentation.data.datamodule import collate_evaluation, collate_training
from segmentation.data.shapes import shapes
from segmentation.errors import UserError
from segmentation.types import IGNORE_INDEX, Sample

CONF = Path(__file__).parents[2] / "conf" / "augmentation"


def options(name: str) -> dict[str, Any]:
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    inherited = [entry for entry in values.pop("defaults", []) if entry != "_self_"]
    return {**(options(inherited[0]) if inherited else {}), **values}


def draw_sample(height: int, width: int, labels: list[int], seed: int) -> Sample:
    random = np.random.default_rng(seed)
    mask = random.choice(np.array(labels, np.uint8), (height // 4 + 1, width // 4 + 1))
    mask = np.kron(mask, np.ones((4, 4), np.uint8))[:height, :width]
    image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {"image": image, "mask": mask, "name": "x"}


@pytest.mark.parametrize("name", ["none", "light", "standard", "strong"])
@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(33, 90), st.integers(33, 90)),
    shape=st.tuples(st.integers(5, 120), st.integers(5, 120)),
    labels=st.lists(st.integers(0, 254), min_size=1, max_size=4),
    resize=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_label_is_invented(
    name: str, size: tuple[int, int], shape: tuple[int, int], labels: list[int], resize: bool, seed: int
) -> None:
    before = draw_sample(*shape, labels, seed)
    after = training_transform(size=size, resize=resize, **options(name))(before, seed)
    assert after["mask"].shape == size
    assert after["image"].shape == (*size, 3)
    assert after["mask"].dtype == after["image"].dtype == np.uint8
    assert set(np.unique(after["mask"])) <= {*np.unique(before["mask"]), IGNORE_INDEX}


@pytest.mark.parametrize("name", ["none", "light", "standard", "strong"])
def test_equal_seeds_give_equal_samples_and_others_differ(name: str) -> None:
    before = draw_sample(80, 100, [0, 1, 2], 0)
    transform = training_transform(size=(48, 48), resize=False, **options(name))
    once, other, again = transform(before, 1), transform(before, 2), transform(before, 1)
    assert np.array_equal(once["image"], again["image"])
    assert np.array_equal(once["mask"], again["mask"])
    assert not np.array_equal(once["image"], other["image"])


@pytest.mark.parametrize(
    "changes",
    [
        {"flip": 1.0},
        {"vertical_flip": 1.0},
        {"rotate": 180.0},
        {"scale": [0.5, 2.0]},
        {"flip": 0.5, "rotate": 20.0},
        {"rotate": 20.0, "scale": [0.5, 2.0]},
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_image_and_mask_move_together(changes: dict[str, Any], seed: int) -> None:
    # The image shows its own mask: wherever they were moved, they must still agree.
    mask = np.zeros((64, 64), np.uint8)
    mask[8:40, 20:50] = 1
    image = np.repeat((mask * 250)[..., None], 3, axis=2)
    after = training_transform(size=(64, 64), resize=True, **changes)(
        {"image": image, "mask": mask, "name": "x"}, seed
    )
    seen = after["image"][..., 0] > 125 + 40  # padding is grey
    valid = after["mask"] != IGNORE_INDEX
    # Nearest and bilinear sampling may disagree along an outline of one pixel.
    assert np.mean(seen[valid] != after["mask"][valid]) < 0.06
    assert 0 < after["mask"][valid].mean() < 1


def test_the_choices_of_one_seed_are_independent() -> None:
    # Steps that shared a seed would be applied together always or never.
    before = draw_sample(40, 40, [1], 0)
    transform = training_transform(size=(40, 40), resize=False, flip=0.5, vertical_flip=0.5)
    image = before["image"]
    outcomes = {"none": image, "h": image[:, ::-1], "v": image[::-1], "hv": image[::-1, ::-1]}
    seen = set()
    for seed in range(64):
        after = transform(before, seed)["image"]
        seen |= {name for name, expected in outcomes.items() if np.array_equal(after, expected)}
    assert seen == set(outcomes)


def test_dropped_rectangles_are_ignored() -> None:
    before = draw_sample(60, 60, [3], 0)
    after = training_transform(size=(60, 60), resize=False, dropout=1.0)(before, 0)
    hidden = (after["image"] != before["image"]).any(axis=2)
    assert hidden.any()
    assert (after["mask"][hidden] == IGNORE_INDEX).all()


def test_evaluation_keeps_the_mask_at_its_own_size() -> None:
    before = draw_sample(50, 70, [0, 1], 0)
    resized = evaluation_transform(size=(32, 48), resize=True)(before, 0)
    untouched = evaluation_transform(size=(32, 48), resize=False)(before, 0)
    assert resized["image"].shape == (32, 48, 3)
    assert np.array_equal(resized["mask"], before["mask"])
    assert np.array_equal(untouched["image"], before["image"])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"flip": 1.5}, "flip=1.5"),
        ({"noise": -0.1}, "noise=-0.1"),
        ({"scale": [2.0, 0.5]}, "scale"),
        ({"scale": [1.0, float("inf")]}, "scale"),
        ({"rotate": 270.0}, "rotate"),
    ],
)
def test_values_out_of_range_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        training_transform(size=(32, 32), resize=True, **wrong)


FILL = 255


@pytest.mark.parametrize("zoom", [0.25, 0.4, 1.0, 1.7, 4.0])
@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_labels_lie_where_their_pixels_do(zoom: float, resize: bool, seed: int) -> None:
    rows, columns = np.mgrid[0:100, 0:100].astype(np.uint8)
    side = round(100 * zoom) if resize else 20
    transform = training_transform(
        size=(side, side), resize=resize, scale=(1.0, 1.0) if resize else (zoom, zoom)
    )
    for slope in (rows, columns):
        image = np.repeat(slope[..., None], 3, axis=2)
        after = transform({"image": image, "mask": slope, "name": "x"}, seed)
        assert (after["mask"] != IGNORE_INDEX).all()
        # The nearest pixel is half a one off at most, and bilinear values are rounded.
        assert np.abs(after["image"][..., 0].astype(float) - after["mask"]).max() <= 1


CHANNELS = [1, 2, 3, 4, 5, 8]
MANY = 128  # the most that data.channels allows
ALL = {
    "scale": [0.5, 2.0],
    "rotate": 30.0,
    "flip": 1.0,
    "vertical_flip": 1.0,
    "colour": 1.0,
    "blur": 1.0,
    "noise": 1.0,
    "dropout": 1.0,
}
EACH: list[dict[str, Any]] = [{name: value} for name, value in ALL.items()]


def noise(channels: int, height: int = 40, width: int = 52) -> Sample:
    random = np.random.default_rng(channels)
    image = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return {"image": image, "mask": random.integers(0, 4, (height, width), dtype=np.uint8), "name": "x"}


@pytest.mark.parametrize("options", [*EACH, ALL], ids=lambda options: "+".join(options))
@pytest.mark.parametrize("channels", [*CHANNELS, MANY])
@pytest.mark.parametrize("resize", [False, True])
def test_each_augmentation_takes_any_number(channels: int, options: dict[str, Any], resize: bool) -> None:
    after = training_transform(size=(33, 65), resize=resize, **options)(noise(channels), 1)
    assert (after["image"].shape, after["mask"].shape) == ((33, 65, channels), (33, 65))
    assert after["image"].dtype == after["mask"].dtype == np.uint8


@settings(max_examples=60, deadline=None)
@given(
    channels=st.sampled_from(CHANNELS),
    changes=st.sampled_from([{"flip": 1.0}, {"vertical_flip": 1.0}, {"rotate": 90.0}, {"scale": [0.5, 2.0]}]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_channel_moves_with_the_mask(channels: int, changes: dict[str, Any], seed: int) -> None:
    # Each channel shows the mask, at a level of its own: wherever it was moved, it must still show it.
    mask = np.zeros((64, 64), np.uint8)
    mask[8:40, 20:50] = 1
    levels = np.linspace(200, 250, channels).astype(np.uint8)
    before: Sample = {"image": mask[:, :, None] * levels, "mask": mask, "name": "x"}
    after = training_transform(size=(64, 64), resize=True, **changes)(before, seed)
    valid = after["mask"] != IGNORE_INDEX
    for channel in range(channels):
        seen = after["image"][:, :, channel] > 165  # padding is grey
        assert np.mean(seen[valid] != after["mask"][valid]) < 0.06


@settings(max_examples=40, deadline=None)
@given(
    channels=st.sampled_from(CHANNELS),
    height=st.integers(8, 60),
    width=st.integers(8, 60),
    resize=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_nothing_asked_for_changes_nothing(
    channels: int, height: int, width: int, resize: bool, seed: int
) -> None:
    before = noise(channels, height, width)
    for transform in (training_transform, evaluation_transform):
        after = transform(size=(height, width), resize=resize)(before, seed)
        assert np.array_equal(after["image"], before["image"])
        assert np.array_equal(after["mask"], before["mask"])


@pytest.mark.parametrize("channels", [*CHANNELS, MANY])
@pytest.mark.parametrize("size", [(8, 11), (20, 26), (80, 104)])
def test_resizing_treats_channels_alike(channels: int, size: tuple[int, int]) -> None:
    transform = evaluation_transform(size=size, resize=True)
    before = noise(channels)
    after = transform(before, 0)["image"]
    assert after.shape == (*size, channels)
    for channel in {0, channels // 2, channels - 1}:
        alone = transform({**before, "image": before["image"][:, :, [channel]]}, 0)["image"]
        assert np.abs(after[:, :, [channel]].astype(int) - alone).max() <= 1


@pytest.mark.parametrize("channels", CHANNELS)
def test_padding_is_grey_in_every_channel(channels: int) -> None:
    after = training_transform(size=(64, 64), resize=False)(noise(channels), 0)
    outside = after["mask"] == IGNORE_INDEX
    assert outside.any()
    assert (after["image"][outside] == 116).all()


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 8])
def test_colours_are_one_curve_for_all_bands(channels: int) -> None:
    before = noise(channels)
    change = training_transform(size=(40, 52), resize=False, colour=1.0)
    afters = [change(before, seed)["image"] for seed in range(8)]
    assert not any(np.array_equal(one, other) for one, other in itertools.pairwise(afters))
    for after in afters:
        curve = {}
        for old, new in zip(before["image"].ravel().tolist(), after.ravel().tolist(), strict=True):
            assert curve.setdefault(old, new) == new
        values = [curve[old] for old in sorted(curve)]
        assert values == sorted(values)
    assert min(after.mean() for after in afters) < before["image"].mean() < max(a.mean() for a in afters)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("collate", [collate_training, collate_evaluation])
def test_batches(channels: int, collate: Any) -> None:
    samples = [noise(channels), noise(channels)]
    images = collate(samples)["image"].numpy()
    assert images.shape == (2, channels, 40, 52)
    assert np.array_equal(images[1].transpose(1, 2, 0), samples[1]["image"])


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("binary", [False, True])
def test_built_in_data(channels: int, binary: bool) -> None:
    dataset = open_dataset(channels, name="shapes", train=2, val=2, test=2, binary=binary)
    colour = shapes(train=2, val=2, test=2, binary=binary)
    assert dataset.channels == channels
    sample, rgb = dataset.train[1], colour.train[1]
    assert (sample["image"].shape, sample["image"].dtype) == ((64, 64, channels), np.uint8)
    assert np.array_equal(sample["mask"], rgb["mask"])
    if channels >= 3:
        assert np.array_equal(sample["image"][:, :, :3], rgb["image"])


@pytest.mark.parametrize("band", [1, 3, 4])
def test_more_bands_tell_shape_from_ground_but_not_the_classes(band: int) -> None:
    channels = 2 if band == 1 else 5
    train = shapes(channels, train=80).train
    samples = [train[index] for index in range(80)]
    values = np.stack([sample["image"][:, :, band] for sample in samples]).astype(float)
    masks = np.stack([sample["mask"] for sample in samples])
    means = [values[masks == label].mean() for label in range(4)]
    assert min(means[1:]) - means[0] > 80
    assert np.ptp(means[1:]) < 12


@pytest.mark.parametrize("channels", [0, -1, 129, "four"])
def test_numbers_that_are_none(channels: Any) -> None:
    from segmentation.options import call

    with pytest.raises(UserError, match=rf"data\.channels={channels} is not right"):
        call("data", DataSettings, channels=channels, size=[64, 64], resize=True, batch_size=1, workers=0)
