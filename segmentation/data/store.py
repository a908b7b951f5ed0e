"""Samples in one file: their pixels one after the other, then where each lies, then what they are.

The end is written last and names its key: a file that was cut short or belongs to other data is never taken for
what is wanted. Plain numbers only, so that opening a file that somebody else wrote runs nothing.
"""

import mmap
import os
import struct
import weakref
from typing import Any, BinaryIO

import numpy as np

from segmentation.sample import Sample

_END = struct.Struct("<16s32sQ")  # magic, key, number of samples
_MAGIC = b"segmentation 01\n"
_ROW = 6  # int64: where the image starts, its height, width and bands, and the mask's height and width


class Writer:
    """Appends samples to a file that was opened for writing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rows: list[tuple[int, ...]] = []
        self.size = 0

    def add(self, sample: Sample) -> None:
        """Takes image (H, W, C) and mask, each uint8, of any size."""
        image, mask = sample["image"], sample["mask"]
        self._rows.append((self.size, *image.shape, *mask.shape))
        for values in (image, mask):
            self._file.write(np.ascontiguousarray(values).data)
        self.size += image.nbytes + mask.nbytes

    def finish(self, key: bytes) -> None:
        """Writes the end, with the key (32 bytes) that `Store` asks for."""
        self._file.write(np.array(self._rows, np.int64).data)
        self._file.write(_END.pack(_MAGIC, key, len(self._rows)))
        self._file.flush()


class Store:
    """Reads what a `Writer` wrote, from a map of the file that all processes of the machine share.

    Raises `ValueError` for a file that is incomplete or has another key. Sent to another process, it opens the
    file there by itself.
    """

    def __init__(self, path: str, key: bytes) -> None:
        self._path = path
        self._key = key
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        if os.fstat(self._file).st_size < _END.size:
            raise ValueError(f"{path} is too short")
        self._map = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)
        magic, found, count = _END.unpack(self._map[-_END.size :])
        start = len(self._map) - _END.size - count * _ROW * 8
        if (magic, found) != (_MAGIC, key) or start < 0:
            raise ValueError(f"{path} holds something else")
        self._rows = np.frombuffer(self._map, np.int64, count * _ROW, start).reshape(count, _ROW)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self._map)

    @property
    def own_path(self) -> str:
        """The open file itself, for other processes of this machine while this one lives (Linux)."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and mask, as copies that may be changed."""
        start, height, width, bands, *mask_shape = self._rows[index].tolist()
        length = height * width * bands
        image = np.frombuffer(self._map, np.uint8, length, start).reshape(height, width, bands)
        mask = np.frombuffer(self._map, np.uint8, mask_shape[0] * mask_shape[1], start + length)
        return image.copy(), mask.reshape(mask_shape).copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.own_path if self._path.startswith("/proc/") else self._path, self._key)
