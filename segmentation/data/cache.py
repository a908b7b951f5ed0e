"""A disk cache of decoded samples, shared by all processes of the machine.

The cache of a split is one memory-mapped file: the pixels of each image and its mask one after the other, then a table
of offsets and sizes (images may have different sizes), then the key and the number of samples. It is written under a
temporary name and renamed when it is complete, so no process reads half a file. It holds plain numbers, so opening a
file from somebody else runs no code.
"""

import hashlib
import importlib.metadata
import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import PIL
from filelock import FileLock, Timeout
from tqdm import tqdm

from segmentation.data.dataset import Samples, fingerprint_of, read_ahead
from segmentation.data.files import evenly_spaced
from segmentation.errors import UserError
from segmentation.machine import cores
from segmentation.types import Sample

log = logging.getLogger(__name__)

FORMAT = 2
"""Increase it whenever the same file would give other pixels (decoding, resizing, generated data) or the layout of the
cache file changes: caches with another number are rebuilt."""

_SAMPLED = 32  # samples from which the size of a split is estimated
_SHARE = 0.8  # the share of the free space that the cache may use: training and the system need the rest
_READ_AHEAD = 4  # samples per thread
_CHECK_EVERY = 256  # samples between two checks of the free space
# int64 values per sample: offset; height, width and bands of the image; height and width of the mask
_ROW = 6
_END = np.dtype([("key", "V32"), ("samples", "<i8")])
_CURE = "free some space there, set XDG_CACHE_HOME to a larger disk, or use data.cache=none."


class Cached:
    """A split read from its cache file: the samples are bit by bit the original samples.

    Raises `OSError` or `ValueError` if the file is missing or incomplete or has another key.
    When it is unpickled in another process, it maps the file there again.
    """

    def __init__(self, names: Sequence[str], path: Path, key: bytes) -> None:
        self.names = names
        self._path = path
        self._key = key
        self._bytes = np.asarray(np.memmap(path, np.uint8, "r"))
        if len(self._bytes) < _END.itemsize:
            raise ValueError(f"{path} is too short")
        end = self._bytes[-_END.itemsize :].view(_END)[0]
        rows = _ROW * 8 * len(names)
        start = len(self._bytes) - _END.itemsize - rows
        if (end["key"].tobytes(), end["samples"]) != (key, len(names)) or start < 0:
            raise ValueError(f"{path} is damaged or holds something else")
        self._rows = np.frombuffer(self._bytes, "<i8", _ROW * len(names), start).reshape(-1, _ROW)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        """The image (H, W, C) and its mask (H, W), uint8, as copies that may be changed."""
        return self.window(index, slice(None), slice(None))

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of the image."""
        _, height, width, *_ = self._rows[index].tolist()
        return height, width

    def window(self, index: int, rows: slice, columns: slice) -> Sample:
        """These rows and columns of an image and its mask; no others are read."""
        start, height, width, bands, *_ = self._rows[index].tolist()
        image = self._bytes[start : start + height * width * bands].reshape(height, width, bands)
        mask = self._mask(index)
        return {
            "image": image[rows, columns].copy(),
            "mask": mask[rows, columns].copy(),
            "name": self.names[index],
        }

    def mask(self, index: int) -> np.ndarray:
        """The mask (H, W), uint8, which must not be changed."""
        return self._mask(index)

    def _mask(self, index: int) -> np.ndarray:
        start, height, width, bands, mask_height, mask_width = self._rows[index].tolist()
        middle = start + height * width * bands
        return self._bytes[middle : middle + mask_height * mask_width].reshape(mask_height, mask_width)

    def __reduce__(self) -> tuple[Any, ...]:
        return Cached, (self.names, self._path, self._key)


@dataclass(frozen=True)
class _Entry:
    """The cache file of a split, which may not exist yet."""

    samples: Samples
    name: str
    """A hash of which files are read and how; caches of earlier versions of these files have the same name."""
    path: Path
    key: bytes

    @classmethod
    def of(cls, samples: Samples) -> "_Entry":
        fingerprint = fingerprint_of(samples)
        what = _hash(fingerprint.what)
        state = _hash(f"{fingerprint.state}\n{FORMAT}\n{_libraries()}")
        name = what.hex()[:16]
        path = cache_folder() / f"{name}-{state.hex()[:16]}.cache"
        return cls(samples, name, path, hashlib.sha256(what + state).digest())

    def find(self) -> Cached | None:
        """The finished cache, if there is one."""
        try:
            return Cached(self.samples.names, self.path, self.key)
        except (OSError, ValueError):
            return None


def cached(splits: Mapping[str, Samples]) -> dict[str, Samples]:
    """The splits by name, read from their cache files; missing files are built first.

    A cache is used as long as the files have the same names, sizes and modification times, are read with the same
    options, and are decoded by the same code (`FORMAT`) and libraries. One process builds it while others wait.

    Raises `UserError` for samples without a `fingerprint()`, and if the splits would use more than 80 % of the free
    space, which is estimated from some samples before anything is written and checked again while writing.
    """
    entries = {split: _Entry.of(samples) for split, samples in splits.items()}
    found = {split: entry.find() for split, entry in entries.items()}
    missing = {split: entries[split] for split, cache in found.items() if cache is None}
    if missing:
        with ExitStack() as locks:
            # Always in the same order, to avoid a deadlock between two processes.
            for name in sorted({entry.name for entry in missing.values()}):
                locks.enter_context(_lock(cache_folder(), name))
            found |= _build(missing)
    return {split: cache for split, cache in found.items() if cache is not None}


def cache_folder() -> Path:
    """`segmentation` in the user's cache folder: $XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segmentation"


def free_space() -> int:
    """Free bytes on the disk of `cache_folder`, which must exist."""
    return shutil.disk_usage(cache_folder()).free


@contextmanager
def _lock(folder: Path, name: str) -> Iterator[None]:
    """A lock that one process holds at a time; the system releases it even if the process is killed."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(folder / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process is building the cache: waiting for it")
            lock.acquire()
    except OSError as error:
        raise UserError(
            f"The cache cannot be written to {folder}: {error.strerror}. Set XDG_CACHE_HOME to another folder."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _build(missing: Mapping[str, _Entry]) -> dict[str, Cached | None]:
    """Finds or builds the caches; the caller holds their locks."""
    # Another process may have built them while this one waited.
    found = {split: entry.find() for split, entry in missing.items()}
    still = {split: missing[split].samples for split, cache in found.items() if cache is None}
    if not still:
        return found
    free, needed = free_space(), sum(map(_estimate, still.values()))
    if needed > _SHARE * free:
        raise UserError(
            f"data.cache=disk needs {_amount(needed)} for {' and '.join(still)}, but {_amount(free)} are free"
            f" in {cache_folder()}, of which it may use {_SHARE:.0%}: {_CURE}"
        )
    reserve = int((1 - _SHARE) * free)
    # Two splits may hold the same images: the second one then finds the file of the first.
    return found | {split: missing[split].find() or _write(split, missing[split], reserve) for split in still}


def _write(split: str, entry: _Entry, reserve: int) -> Cached:
    folder, start = entry.path.parent, time.perf_counter()
    for stale in folder.glob(f"{entry.name}-*.part"):  # left by a process that was killed
        stale.unlink(missing_ok=True)
    part = entry.path.with_suffix(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            size = _write_samples(file, split, entry, reserve)
            os.fsync(file.fileno())  # otherwise the name could survive a power cut without its contents
        part.replace(entry.path)
    except OSError as error:
        if error.filename not in (None, str(part)):
            raise  # an image or mask file could not be read
        raise UserError(f"The cache in {folder} cannot be written: {error.strerror}: {_CURE}") from error
    finally:
        part.unlink(missing_ok=True)
    for old in folder.glob(f"{entry.name}-*.cache"):
        if old != entry.path:  # of an earlier version of the same files or of the decoding
            old.unlink(missing_ok=True)
    log.info("cached %s: %s in %s, in %.0f s", split, _amount(size), folder, time.perf_counter() - start)
    return Cached(entry.samples.names, entry.path, entry.key)


def _write_samples(file: BinaryIO, split: str, entry: _Entry, reserve: int) -> int:
    """Writes the whole file and returns its size in bytes."""
    rows, size, total = [], 0, len(entry.samples)
    with ThreadPoolExecutor(cores()) as pool:
        reading = read_ahead(entry.samples.__getitem__, range(total), pool, ahead=_READ_AHEAD * cores())
        hidden = not sys.stderr.isatty()
        for sample in tqdm(reading, desc=f"caching {split}", total=total, leave=False, disable=hidden):
            image, mask = sample["image"], sample["mask"]
            rows.append((size, *image.shape, *mask.shape))
            for values in (image, mask):
                file.write(np.ascontiguousarray(values).data)
                size += values.nbytes
            if len(rows) % _CHECK_EVERY == 0 and (free := free_space()) < reserve:
                raise UserError(
                    f"The cache uses {_amount(size)} for {len(rows)} of {total} images of {split}, and only "
                    f"{_amount(free)} are left in {cache_folder()}: {_CURE}"
                )
    file.write(np.array(rows, "<i8").tobytes())
    file.write(np.array((entry.key, total), _END).tobytes())
    file.flush()
    return file.tell()


def _libraries() -> str:
    """The libraries that decode, resize and generate images, with their versions."""
    try:
        rasterio = importlib.metadata.version("rasterio")
    except importlib.metadata.PackageNotFoundError:
        rasterio = "none"
    return f"Pillow {PIL.__version__}, OpenCV {cv2.__version__}, numpy {np.__version__}, rasterio {rasterio}"


def _estimate(samples: Samples) -> int:
    """Bytes of all samples, estimated from some; exact if all have one size."""
    some = [samples[index] for index in evenly_spaced(len(samples), _SAMPLED)]
    return sum(each["image"].nbytes + each["mask"].nbytes for each in some) * len(samples) // len(some)


def _amount(size: int) -> str:
    unit, name = next(
        (unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")) if size >= unit or name == "KB"
    )
    return f"{size / unit:.1f} {name}"


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
