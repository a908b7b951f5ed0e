"""Decoded samples kept for the next epoch, in memory or in a file, once for all processes of the machine."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from tqdm import tqdm

from segmentation.data.checks import spread
from segmentation.data.machine import cores
from segmentation.data.places import Disk, Memory, Place
from segmentation.data.reading import read
from segmentation.data.source import Samples
from segmentation.data.store import Store, Writer
from segmentation.errors import UserError
from segmentation.sample import Sample

log = logging.getLogger(__name__)

_LOOKS = 32  # samples that the size of a split is told from
_SHARE = 0.8  # of what is free: training needs some of it, and the system
_AHEAD = 4  # samples read ahead by a thread
_CHECK = 256  # samples from one look at the free space to the next

PLACES: dict[str, type[Place]] = {"disk": Disk, "ram": Memory}


class Cached:
    """A split out of a `Store`: the samples are what `samples` would give, bit by bit."""

    def __init__(self, samples: Samples, store: Store) -> None:
        self._samples = samples
        self._store = store

    @property
    def names(self) -> Sequence[str]:
        """As the samples' own."""
        return self._samples.names

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        image, mask = self._store.read(index)
        return {"image": image, "mask": mask, "name": self._samples.names[index]}


def cached(splits: Mapping[str, Samples], kind: Literal["ram", "disk"]) -> dict[str, Samples]:
    """The splits by name, read from the cache of this kind, which is filled with what it lacks.

    What is in the cache is used as long as the files are the same by name, size and time of change, and are
    to be read in the same way. One process fills it while others wait; nothing unfinished is ever used.

    Raises `UserError` where the splits would take too much of the free memory or disk: before anything is
    written, told from some samples, or later, where the others turn out to be larger.
    """
    places = {split: PLACES[kind](samples) for split, samples in splits.items()}
    stores = {split: place.find() for split, place in places.items()}
    missing = {split: samples for split, samples in splits.items() if stores[split] is None}
    reserve = _check_room(missing, kind, places)
    return {
        split: Cached(samples, stores[split] or _fill(split, samples, places[split], reserve))
        for split, samples in splits.items()
    }


def _check_room(missing: Mapping[str, Samples], kind: str, places: Mapping[str, Place]) -> int:
    """The bytes that must stay free while the missing splits are filled."""
    if not missing:
        return 0
    place = places[next(iter(missing))]
    free, needed = place.free(), sum(_size(samples) for samples in missing.values())
    if needed > _SHARE * free:
        raise UserError(
            f"data.cache={kind} would take {_amount(needed)} for {' and '.join(missing)}, but "
            f"{_amount(free)} are free {place.where}, of which {_SHARE:.0%} may be taken: {place.cure}"
        )
    return int((1 - _SHARE) * free)


def _size(samples: Samples) -> int:
    """Bytes of all samples, told from some; exact where these are of one size."""
    looks = [samples[index] for index in spread(len(samples), _LOOKS)]
    return sum(look["image"].nbytes + look["mask"].nbytes for look in looks) * len(samples) // len(looks)


def _fill(split: str, samples: Samples, place: Place, reserve: int) -> Store:
    with place.lock():
        found = place.find()  # another process may have filled it meanwhile
        if found is not None:
            return found
        start = time.perf_counter()
        try:
            with place.create() as file:
                _write(Writer(file), split, samples, place, reserve)
                store = place.publish(file)
        except OSError as error:
            raise UserError(
                f"The cache {place.where} cannot be written: {error.strerror}: {place.cure}"
            ) from error
        log.info(
            "cached %s: %s %s, in %.0f s",
            split,
            _amount(store.size),
            place.where,
            time.perf_counter() - start,
        )
        return store


def _write(writer: Writer, split: str, samples: Samples, place: Place, reserve: int) -> None:
    with ThreadPoolExecutor(cores()) as pool:
        for number, sample in enumerate(_progress(split, samples, pool), 1):
            writer.add(sample)
            if number % _CHECK == 0 and place.free() < reserve:
                raise UserError(
                    f"The cache has taken {_amount(writer.size)} for {number} of {len(samples)} images of {split}, "
                    f"and {_amount(place.free())} are left {place.where}: {place.cure}"
                )
    writer.finish(place.key)


def _progress(split: str, samples: Samples, pool: ThreadPoolExecutor) -> Iterator[Sample]:
    total = len(samples)
    return tqdm(
        read(samples, range(total), pool, ahead=_AHEAD * cores()),
        desc=f"caching {split}",
        total=total,
        leave=False,
        disable=not sys.stderr.isatty(),
    )


def _amount(size: int) -> str:
    unit, name = next(
        (unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")) if size >= unit or name == "KB"
    )
    return f"{size / unit:.1f} {name}"
