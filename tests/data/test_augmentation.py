"""No augmentation invents a label, and each is a function of sample and seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from segmentation.data.augmentation import evaluation_transform, training_transform
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
