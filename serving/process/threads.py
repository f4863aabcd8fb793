"""The threads that answer: few, since they compete for the interpreter, and more only while all of them are held up."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from functools import partial
from typing import Any

_STALL_SECONDS = 0.02

_log = logging.getLogger(__name__)


class _Task:
    """A task, of which grpc wants to know when it is done: so it counts the requests that it holds."""

    __slots__ = ("_callbacks", "_is_done", "_run")

    def __init__(self, run: Callable[[], Any]):
        self._run = run
        self._callbacks: list[Callable[[Any], Any]] = []
        self._is_done = False

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        self._callbacks.append(callback)
        if self._is_done:
            self._tell()

    def run(self) -> None:
        try:
            self._run()
        except Exception:
            _log.exception("in an answer")
        self._is_done = True
        self._tell()

    def _tell(self) -> None:
        with suppress(IndexError):  # the other thread was faster
            self._callbacks.pop()(self)


class AnswerThreads(futures.Executor):
    """Runs tasks whose results nobody waits for.

    A request holds its thread from its headers to its last byte: callers that send half a request would hold all of
    them. So threads are added when nothing was begun for 20 ms though something waits, and stay while as many are held
    up. With tasks that are no futures a request costs a tenth less than with `ThreadPoolExecutor`.

    Args:
        count: Threads that are always there.
        most: Threads at most.
    """

    def __init__(self, count: int, most: int):
        self._count = count
        self._most = max(count, most)
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._begun_at = time.monotonic()
        self._running: dict[int, float] = {}
        """Since when each thread runs its task."""
        self._alive = 0
        self._lock = threading.Lock()
        for _ in range(count):
            self._add()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Any:
        """Run a task soon; return what tells when it is done."""
        task = _Task(partial(fn, *args))
        self._tasks.put(task)
        if time.monotonic() - self._begun_at > _STALL_SECONDS and self._tasks.qsize():
            self.relieve()
        return task

    def relieve(self) -> None:
        """Add a thread for each task that waits, if all threads are held up."""
        if time.monotonic() - self._begun_at > _STALL_SECONDS:
            for _ in range(min(self._tasks.qsize(), self._most - self._alive)):
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
        me = threading.get_ident()
        while (task := self._tasks.get()) is not None:
            self._begun_at = self._running[me] = time.monotonic()
            task.run()
            del task, self._running[me]  # or it would live until the next task
            if self._alive > self._count and self._is_spare():
                return
        with self._lock:
            self._alive -= 1

    def _is_spare(self) -> bool:
        with self._lock:
            since = time.monotonic() - _STALL_SECONDS
            held_up = sum(begun < since for begun in self._running.copy().values())
            if self._alive - held_up <= self._count:
                return False
            self._alive -= 1
            return True
