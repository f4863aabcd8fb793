"""The threads that answer: few, since they compete for the interpreter, and more only while all of them are held up."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

_STALL_SECONDS = 0.02

_log = logging.getLogger(__name__)


class AnswerThreads(futures.Executor):
    """Runs tasks whose results nobody waits for.

    A request holds its thread from its headers to its last byte: callers that send half a request would hold all of
    them. So a thread is added when nothing was begun for 20 ms though something waits, and ends when it is not needed
    any more. Without futures a request costs a tenth less than with `ThreadPoolExecutor`.

    Args:
        count: Threads that are always there.
        most: Threads at most.
    """

    def __init__(self, count: int, most: int):
        self._count = count
        self._most = max(count, most)
        self._tasks: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._begun_at = time.monotonic()
        self._alive = 0
        self._lock = threading.Lock()
        for _ in range(count):
            self._add()

    @property
    def waiting(self) -> int:
        """Tasks that no thread has begun."""
        return self._tasks.qsize()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> None:  # type: ignore[override]
        """Run a task soon."""
        self._tasks.put((fn, args))
        if time.monotonic() - self._begun_at > _STALL_SECONDS and self._tasks.qsize():
            self.relieve()

    def relieve(self) -> None:
        """Add a thread if all are held up."""
        is_stalled = self._tasks.qsize() and time.monotonic() - self._begun_at > _STALL_SECONDS
        if is_stalled and self._alive < self._most:
            self._add()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """End the threads once all tasks are done."""
        for _ in range(self._alive):
            self._tasks.put(None)

    def _add(self) -> None:
        with self._lock:
            self._alive += 1
            name = f"answer-{self._alive}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._begun_at = time.monotonic()
            function, arguments = task
            try:
                function(*arguments)
            except Exception:
                _log.exception("in an answer")
            del task, function, arguments  # or they would live until the next task
            if self._alive > self._count and self._is_spare():
                return
        with self._lock:
            self._alive -= 1

    def _is_spare(self) -> bool:
        with self._lock:
            if self._alive > self._count and not self._tasks.qsize():
                self._alive -= 1
                return True
            return False
