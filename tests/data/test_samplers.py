"""Samplers: every process gets its share of each batch, and a resumed pass goes on where it stopped."""

import numpy as np
import pytest

from segmentation.data.samplers import (
    BalancedSampler,
    DistributedBatchSampler,
    RoundRobinBatchSampler,
    SampleIndex,
    SequentialSampler,
    ShuffledSampler,
)


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [1, 7, 12])
def test_processes_share_every_batch(processes: int, length: int) -> None:
    for sampler in (SequentialSampler(length), ShuffledSampler(length, seed=3)):
        alone = list(DistributedBatchSampler(sampler, 5))
        shares = [
            list(DistributedBatchSampler(sampler, 5, process=process, processes=processes))
            for process in range(processes)
        ]
        assert {len(share) for share in shares} == {len(alone)}
        for number, batch in enumerate(alone):
            parts = [share[number] for share in shares]
            assert all(parts)
            assert sorted(draw for part in parts for draw in part if not draw.padding) == sorted(batch)
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert sorted(draw.item for batch in alone for draw in batch) == list(range(length))


@pytest.mark.parametrize("processes", [1, 2, 5])
@pytest.mark.parametrize("length", [1, 7, 12])
def test_processes_take_turns_at_batches(processes: int, length: int) -> None:
    alone = list(DistributedBatchSampler(SequentialSampler(length), 5))
    turns = [
        RoundRobinBatchSampler(SequentialSampler(length), 5, process=process, processes=processes)
        for process in range(processes)
    ]
    assert [len(turn) for turn in turns] == [len(list(turn)) for turn in turns]
    assert sorted(batch for turn in turns for batch in turn) == alone


def test_a_pass_goes_on_after_the_batches_that_were_seen() -> None:
    starts = iter([0, 2, 0])
    shares = DistributedBatchSampler(ShuffledSampler(12, seed=3), 5, first_batch=lambda: next(starts))
    whole = list(shares)
    assert list(shares) == whole[2:]
    assert list(shares) == whole
    assert isinstance(whole[0][0], SampleIndex)


def test_an_image_is_drawn_for_each_of_its_windows() -> None:
    sampler = ShuffledSampler(3, seed=1, times=np.array([1, 4, 2]))
    assert len(sampler) == 7
    first = list(sampler)
    assert np.bincount([draw.item for draw in first]).tolist() == [1, 4, 2]
    assert len({draw.seed for draw in first}) == 7
    sampler.set_epoch(1)
    assert list(sampler) != first


@pytest.mark.parametrize("focus", [0.0, 0.3, 1.0])
def test_every_class_is_drawn_alike(focus: float) -> None:
    present = np.zeros((500, 4), bool)
    present[:, 0] = True
    present[:50, 1] = True
    present[7, 2] = True  # of one image alone; no image holds class 3
    sampler = BalancedSampler(present, seed=2, times=np.full(500, 20), focus=focus)
    draws = list(sampler)
    assert len(draws) == len(sampler) == 10_000
    assert draws == list(sampler)
    items = np.array([draw.item for draw in draws])
    assert (items == 7).mean() == pytest.approx(1 / 3 + 1 / 3 / 50 + 1 / 3 / 500, abs=0.02)
    assert ((items < 50) & (items != 7)).mean() == pytest.approx((1 / 3 + 1 / 3 / 10) * 49 / 50, abs=0.02)
    shown = [draw for draw in draws if draw.label is not None]
    assert len(shown) / len(draws) == pytest.approx(focus, abs=0.02)
    assert all(present[draw.item, draw.label] for draw in shown)


def test_within_a_class_images_are_drawn_as_often_as_the_data_say() -> None:
    present = np.ones((20, 2), bool)
    present[10:, 1] = False
    often = np.repeat([3.0, 1.0, 0.0, 2.0], 5)
    sampler = BalancedSampler(present, seed=0, times=np.full(20, 500), often=often)
    counts = np.bincount([draw.item for draw in sampler], minlength=20) / len(sampler)
    first, second = often / often.sum(), often * present[:, 1] / often[:10].sum()
    np.testing.assert_allclose(counts, (first + second) / 2, atol=0.01)


def test_fractions_of_an_epoch_are_kept_over_the_epochs() -> None:
    times = np.array([0.5] * 40 + [1.75] * 40)
    sampler = ShuffledSampler(80, seed=1, times=times)
    assert len(sampler) == 90
    drawn = np.zeros(80)
    for epoch in range(40):
        sampler.set_epoch(epoch)
        counts = np.bincount([draw.item for draw in sampler], minlength=80)
        assert counts.sum() == 90
        assert (abs(counts - times) < 1).all()
        drawn += counts
    assert drawn[:40].mean() / 40 == pytest.approx(0.5, abs=0.02)
    assert drawn[40:].mean() / 40 == pytest.approx(1.75, abs=0.02)
