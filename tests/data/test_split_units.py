"""Groups stay together, strata are divided alike, folds are complete: with fractions and with folds."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_data import image, mask, save

from segmentation.data import create_dataset
from segmentation.data.splits import split_names, split_units
from segmentation.errors import UserError

USUAL = (0.7, 0.15, 0.15)


@settings(deadline=None, max_examples=100)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.sampled_from("abc")), min_size=5, max_size=80),
    shares=st.sampled_from([USUAL, (0.5, 0.25, 0.25), (0.2,) * 5, (1 / 3,) * 3]),
    seed=st.integers(0, 99),
)
def test_shares_are_met_within_a_group(
    sizes: list[tuple[int, str]], shares: tuple[float, ...], seed: int
) -> None:
    groups = [f"g{number}" for number, (size, _) in enumerate(sizes) for _ in range(size)]
    strata = [stratum for size, stratum in sizes for _ in range(size)]
    part_of = split_units(groups, strata, shares=shares, seed=seed)
    homes: dict[str, set[int]] = {}
    for group, part in zip(groups, part_of.tolist(), strict=True):
        homes.setdefault(group, set()).add(part)
    assert all(len(home) == 1 for home in homes.values())
    largest = max(size for size, _ in sizes)
    counts = Counter(part_of.tolist())
    for part, share in enumerate(shares):
        assert counts[part] > 0
        assert abs(counts[part] - share * len(groups)) <= max(largest, len(shares))
        for stratum in set(strata):
            inside = part_of[np.array(strata) == stratum]
            assert abs((inside == part).sum() - share * len(inside)) <= 2 * max(largest, len(shares))
    # The order in which the samples come changes nothing.
    order = np.random.default_rng(seed).permutation(len(groups))
    again = split_units(
        [groups[index] for index in order], [strata[index] for index in order], shares=shares, seed=seed
    )
    assert np.array_equal(again, part_of[order])


def test_single_images_meet_the_fractions_exactly() -> None:
    names = [f"n{number}" for number in range(100)]
    strata = ["rare" if number % 5 == 0 else "usual" for number in range(100)]
    part_of = split_units(names, strata, shares=USUAL, seed=0)
    assert np.bincount(part_of).tolist() == [70, 15, 15]
    assert np.bincount(part_of[np.array(strata) == "rare"]).tolist() == [14, 3, 3]


def videos(root: Path, scenes: int = 7, frames: int = 4) -> dict[str, Any]:
    """Binary data, where the names say the scene; one scene in three has a foreground."""
    for scene in range(scenes):
        for frame in range(frames):
            save(root / "images" / f"s{scene}_{frame}.png", image())
            save(root / "masks" / f"s{scene}_{frame}.png", mask(*((0, 255) if scene % 3 == 0 else (0,))))
    return {"name": "binary", "root": str(root), "threshold": 127}


def test_frames_of_a_video_stay_together(tmp_path: Path) -> None:
    names = create_dataset(**videos(tmp_path), group="^(s[0-9]+)_").names()
    scenes = [{name.partition("_")[0] for name in part} for part in names.values()]
    assert sum(map(len, scenes)) == 7 == len(set.union(*scenes))
    assert all(len(part) % 4 == 0 for part in names.values())


def test_without_the_options_nothing_changes(tmp_path: Path) -> None:
    dataset = create_dataset(**videos(tmp_path), group=None, stratify=None, folds=None)
    names = sorted(name for part in dataset.names().values() for name in part)
    for split, indices in split_names(names, fractions=USUAL, seed=0).items():
        assert dataset.names()[split] == [names[index] for index in indices]


@pytest.mark.parametrize("more", [{}, {"group": "^(s[0-9]+)_"}, {"stratify": "classes"}])
def test_folds_are_apart_and_complete(more: dict[str, Any], tmp_path: Path) -> None:
    options = videos(tmp_path)
    found = [create_dataset(**options, folds=5, fold=fold, **more).names() for fold in range(5)]
    tests = [set(names["test"]) for names in found]
    assert len(set.union(*tests)) == sum(map(len, tests)) == 28
    for fold, names in enumerate(found):
        assert set(names["val"]) == tests[(fold + 1) % 5]
        assert not set(names["train"]) & (set(names["val"]) | set(names["test"]))
        assert sum(map(len, names.values())) == 28


def test_classes_are_divided_alike(tmp_path: Path) -> None:
    dataset = create_dataset(**videos(tmp_path, 30, 1), stratify="classes", fractions=[0.6, 0.2, 0.2])
    shares = [sum(sample["mask"].any() for sample in samples) for samples in dataset.splits().values()]  # type: ignore[attr-defined]
    assert shares == [6, 2, 2]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"group": "{parent}"}, "is '' for all 28 names"),
        ({"group": "^(x)"}, "is not in 28 of 28 names"),
        ({"stratify": "("}, "is no regular expression"),
        ({"group": "^s0|^s"}, "2 groups"),
        ({"folds": 2}, "dataset.folds=2 is not right"),
        ({"folds": 3, "fold": 3}, "not one of the 3 folds 0..2"),
        ({"fold": 1}, "no use without dataset.folds"),
        ({"folds": 29}, "28 images are too few for 29 parts: give fewer dataset.folds"),
        ({"folds": 3, "split": "split.csv"}, "dataset.folds=3 cannot be used"),
        ({"fractions": [1, 1, 1], "group": "^(s[0-9]+)_"}, "sum to 1"),
    ],
)
def test_wrong_options(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(").replace("'", "'")):
        create_dataset(**videos(tmp_path), **more)


@pytest.mark.parametrize("option", [{"group": "^(p)"}, {"folds": 3}, {"stratify": "classes"}])
def test_split_folders_are_settled(option: dict[str, Any], tmp_path: Path) -> None:
    from made_data import divided

    with pytest.raises(UserError, match="already has split folders"):
        create_dataset(**divided(tmp_path), **option)


@pytest.mark.parametrize("option", ["group", "stratify"])
def test_a_pattern_that_takes_for_ever_ends_in_one_line(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segmentation.options._MATCH_SECONDS", 0.5)
    for number in range(4):
        save(tmp_path / f"images/{'a' * 40}{number}.png", image())
        save(tmp_path / f"masks/{'a' * 40}{number}.png", mask(0, 255))
    options = {"name": "binary", "root": str(tmp_path), option: "(a+)+b"}
    with pytest.raises(UserError, match=rf"dataset.{option}=\(a\+\)\+b takes more than"):
        create_dataset(**options)
