"""Whose page is made next: few pages at a time, and those of a batch only while no single page is being made."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from queue import SimpleQueue

from serving.errors import CallerLeftError

_LOOK_SECONDS = 0.001
_LOOK_FOR_CALLER_SECONDS = 0.05
_MOST_WAIT_SECONDS = 0.02


class Turns:
    """The turns to make pages in one process; safe for concurrent use by threads.

    Pages are made by at most `count` threads at a time, since threads compete for the interpreter lock, however many
    threads wait for callers or disks. One batch at a time is answered; before each of its pages it waits until no
    single page is in progress, for at most 20 ms, so that it also ends under constant load.
    """

    def __init__(self, count: int):
        self._free: SimpleQueue[None] = SimpleQueue()  # written in C: a semaphore would cost a page some microseconds
        for _ in range(count):
            self._free.put(None)
        self._batch = threading.Lock()
        self._making: set[int] = set()
        """The threads that make or await a single page."""
        self._page = _Page(self._free, self._making)

    def page(self) -> AbstractContextManager[None]:
        """Hold a turn for a single page."""
        return self._page

    @contextmanager
    def batch(self, is_wanted: Callable[[], bool]) -> Iterator[None]:
        """Wait until the batches before this one are answered, as long as it is wanted.

        Raises:
            CallerLeftError: If it is not wanted any more.
        """
        while not self._batch.acquire(timeout=_LOOK_FOR_CALLER_SECONDS):
            if not is_wanted():
                raise CallerLeftError("the caller left while other batches were answered")
        try:
            yield
        finally:
            self._batch.release()

    @contextmanager
    def page_of_batch(self) -> Iterator[None]:
        """Hold a turn for a page of a batch, once no single page is in progress."""
        deadline = time.monotonic() + _MOST_WAIT_SECONDS
        while self._making and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        self._free.get()
        try:
            yield
        finally:
            self._free.put(None)


class _Page(AbstractContextManager[None]):
    """A turn for a single page; without a state of its own, so that all pages share one."""

    def __init__(self, free: SimpleQueue[None], making: set[int]):
        self._free = free
        self._making = making

    def __enter__(self) -> None:
        self._making.add(threading.get_ident())
        self._free.get()

    def __exit__(self, *_: object) -> None:
        self._free.put(None)
        self._making.discard(threading.get_ident())
