"""Samples read by several threads, in their order."""

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

from segmentation.data.source import Samples
from segmentation.sample import Sample


def read(
    samples: Samples, indices: Iterable[int], pool: ThreadPoolExecutor, *, ahead: int
) -> Iterator[Sample]:
    """The samples of `indices`, by a pool's threads, `ahead` of what is asked for: whole photographs are large.

    It pays where samples are decoded, which leaves Python's lock alone.
    """
    waiting: deque[Future[Sample]] = deque()
    # Readers switch warnings off and on, each for all threads: whatever they leave behind is undone here.
    with warnings.catch_warnings():
        try:
            for index in indices:
                waiting.append(pool.submit(samples.__getitem__, index))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            wait(waiting)  # where one cannot be read, the others must not leave anything behind later
