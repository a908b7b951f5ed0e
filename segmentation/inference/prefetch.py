"""Prefetch: while one item is processed, the next is read and the last one is written."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from types import FrameType
from typing import Generic, TypeVar


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise an exception, so that open files are closed."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # Only the main thread may ask for signals, and another's own handling is left alone.
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


Item = TypeVar("Item")
Result = TypeVar("Result")
Answer = TypeVar("Answer")

_DEPTH = 2  # one item on its way and one in reserve; more would only cost memory


class _End:
    """The last thing in a queue."""


@dataclass
class Pipeline(Generic[Item, Result]):
    """Runs `read` and `write` in threads of their own around `work`, which stays in the caller's thread.

    Signals reach the caller's thread only, so an interrupt never falls into a library's reading or writing.
    Items keep their order. With `live`, an item is dropped if the work is not ready for it, so that a camera's
    frames stay current. `seconds` is how long each of the stages was busy, `dropped` how many items were dropped.
    """

    read: Iterator[Item]
    work: Callable[[Item], Result]
    write: Callable[[Result], None]
    live: bool = False
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "work", "write"), 0.0))
    dropped: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._items: Queue[Item | _End] = Queue(_DEPTH)
        self._results: Queue[Result | _End] = Queue(_DEPTH)

    def run(self) -> None:
        """Until `read` ends or a stage fails; results of the work that was done are written in any case.

        Raises the first error of any stage, or what interrupted the caller's thread, after both threads ended.
        """
        # Daemons: a second interrupt, while these end, must not wait for them.
        threads = [threading.Thread(target=target, daemon=True) for target in (self._reading, self._writing)]
        for thread in threads:
            thread.start()
        try:
            while not self._stop.is_set() and not isinstance(item := self._items.get(), _End):
                self._results.put(self._timed("work", self.work, item))
        finally:
            self._stop.set()
            self._results.put(_End())
            while threads[0].is_alive():
                self._discard(self._items)
                threads[0].join(0.01)
            threads[1].join()
        if self._errors:
            raise self._errors[0]

    def _reading(self) -> None:
        try:
            while not self._stop.is_set():
                item: Item | _End = self._timed("read", next, self.read, _End())
                if isinstance(item, _End):
                    return
                self._hand_on(item)
        except BaseException as error:
            self._errors.append(error)
        finally:
            # In any case: the caller's thread may be waiting for an item.
            self._items.put(_End())

    def _hand_on(self, item: Item) -> None:
        if not self.live:
            self._items.put(item)
            return
        try:
            self._items.put_nowait(item)
        except Full:
            self.dropped += 1

    def _writing(self) -> None:
        try:
            while not isinstance(result := self._results.get(), _End):
                self._timed("write", self.write, result)
        except BaseException as error:
            self._errors.append(error)
            self._stop.set()
            # The caller's thread may be waiting for room.
            while not isinstance(self._results.get(), _End):
                pass

    @staticmethod
    def _discard(queue: "Queue[Item | _End]") -> None:
        try:
            while True:
                queue.get_nowait()
        except Empty:
            return

    def _timed(self, stage: str, call: Callable[..., Answer], *arguments: object) -> Answer:
        begin = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            self.seconds[stage] += time.perf_counter() - begin
