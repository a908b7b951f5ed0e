"""Where the cache of a split lies, and how processes find it, wait for it and never see half of it."""

import fcntl
import hashlib
import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from segmentation import __version__
from segmentation.data.machine import free_memory
from segmentation.data.source import Samples, traced
from segmentation.data.store import Store
from segmentation.errors import UserError

log = logging.getLogger(__name__)

_MEMORY = "segmentation"  # what the kernel shows as the name of our files in memory


def folder() -> Path:
    """`segmentation` in the user's folder for caches: $XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segmentation"


class Place(ABC):
    """The cache of one split: found by what is read and how, dropped when the files change."""

    ending: str

    def __init__(self, samples: Samples) -> None:
        what, state = (hashlib.sha256(part.encode(errors="surrogateescape")) for part in traced(samples))
        # Other versions may decode, resize or draw in another way.
        what.update(__version__.encode())
        self.key = hashlib.sha256(what.digest() + state.digest()).digest()
        self._folder = folder()
        self._name = what.hexdigest()[:16]
        self._path = self._folder / f"{self._name}-{state.hexdigest()[:16]}.{self.ending}"

    def find(self) -> Store | None:
        """What is there and whole, and is of these samples."""
        try:
            return Store(str(self._path), self.key)
        except (OSError, ValueError):
            return None

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UserError(
                f"The cache cannot be kept in {self._folder}: {error.strerror}. Set XDG_CACHE_HOME to another folder."
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held by one process at a time; the system frees it when the process ends, however it ends."""
        self._make_folder()
        with (self._folder / f"{self._name}.lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("another process fills the cache: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @property
    @abstractmethod
    def where(self) -> str:
        """For messages."""

    @property
    @abstractmethod
    def cure(self) -> str:
        """For messages: what to do where it is too small."""

    @abstractmethod
    def free(self) -> int:
        """Bytes that are left there."""

    @abstractmethod
    def create(self) -> AbstractContextManager[BinaryIO]:
        """A new file that nobody else finds, gone at the end unless it was published; under the lock."""

    @abstractmethod
    def publish(self, file: BinaryIO) -> Store:
        """Lets others find the finished file, in one step."""

    def _replace(self, new: Path) -> None:
        new.replace(self._path)
        for old in self._folder.glob(f"{self._name}-*.{self.ending}"):
            if old != self._path:  # of the same files, before they changed
                old.unlink(missing_ok=True)


class Disk(Place):
    """A file that stays for the next run."""

    ending = "cache"

    @property
    def where(self) -> str:
        return f"in {self._folder}"

    @property
    def cure(self) -> str:
        return "make room there, set XDG_CACHE_HOME to a larger disk, or leave it at data.cache=none."

    def free(self) -> int:
        self._make_folder()
        return shutil.disk_usage(self._folder).free

    @contextmanager
    def create(self) -> Iterator[BinaryIO]:
        for left in self._folder.glob(f"{self._name}-*.part"):  # by a process that was killed
            left.unlink()
        part = self._path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                yield file
        finally:
            part.unlink(missing_ok=True)

    def publish(self, file: BinaryIO) -> Store:
        os.fsync(file.fileno())  # or a name could outlive a power cut without its contents
        self._replace(self._path.with_suffix(".part"))
        return Store(str(self._path), self.key)


class Memory(Place):
    """A file without a name, gone with the last process that has it open; a link tells the others where it is."""

    ending = "ram"
    where = "of memory"

    @property
    def cure(self) -> str:
        return "give data.cache=disk, a smaller data.size, or leave it at data.cache=none."

    def find(self) -> Store | None:
        try:
            # The number of a process may be given out again: is it still our file?
            target = self._path.readlink().readlink()
        except OSError:
            return None
        return super().find() if str(target).startswith(f"/memfd:{_MEMORY}") else None

    def free(self) -> int:
        return free_memory()

    @contextmanager
    def create(self) -> Iterator[BinaryIO]:
        if not hasattr(os, "memfd_create"):
            raise UserError("data.cache=ram needs Linux: give data.cache=disk, which memory holds as well.")
        with os.fdopen(os.memfd_create(_MEMORY), "wb") as file:
            yield file

    def publish(self, file: BinaryIO) -> Store:
        store = Store(f"/proc/self/fd/{file.fileno()}", self.key)
        link = self._path.with_suffix(".link")
        link.unlink(missing_ok=True)
        link.symlink_to(store.own_path)
        self._replace(link)
        return store
