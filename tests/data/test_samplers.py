"""Samplers: every process gets its share of each batch, and a resumed pass goes on where it stopped."""

import pytest

from segmentation.data.samplers import (
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
