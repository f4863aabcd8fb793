"""The threads that answer: few, since they compete for the interpreter lock; more only while all are blocked."""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from functools import partial
from typing import Any

from serving.api.waiting import WaitingRequests

_LATE_SECONDS = 0.01
_BLOCKED_SECONDS = 0.05  # far more than a page takes while all cores are busy: threads added then only compete
_IDLE_SECONDS = 0.5
_RESERVE = 8
"""Threads beyond those that answer and those that are blocked, while any is."""

_log = logging.getLogger(__name__)


class _Task:
    """A task with completion callbacks, by which grpc counts the requests in progress."""

    __slots__ = ("_callbacks", "_is_done", "_run")

    def __init__(self, run: Callable[[], Any]):
        self._run = run
        self._callbacks: list[Callable[[Any], Any]] = []
        self._is_done = False

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        self._callbacks.append(callback)
        if self._is_done:
            self._notify()

    def run(self) -> None:
        try:
            self._run()
        except Exception:
            _log.exception("an answer failed")
        self._is_done = True
        self._notify()

    def _notify(self) -> None:
        with suppress(IndexError):  # another thread has already called it
            self._callbacks.pop()(self)


class AnswerThreads(futures.Executor):
    """A thread pool for tasks whose results are not needed.

    A request occupies its thread from its headers to its last byte, so callers that send incomplete requests could
    block all threads. Therefore threads that are blocked, because they have waited 10 ms for a caller or have run one
    task for 50 ms, are replaced, and some more are added so that the next tasks that block hold up no other. Added
    threads end once none is blocked. Without futures, a request costs a tenth less than with `ThreadPoolExecutor`.

    Args:
        count: Minimum number of threads.
        most: Maximum number of threads.
        waiting: The requests that wait for their callers, of which each holds a thread: if they hold nearly all of
            many threads, the next task gets another one at once.
    """

    def __init__(self, count: int, most: int, waiting: WaitingRequests | None = None):
        self._waiting = WaitingRequests(1, math.inf) if waiting is None else waiting
        self._count = count
        self._most = max(count, most)
        self._wanted = count
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._running: dict[int, float] = {}
        """By thread, the start of its task, in seconds of the monotonic clock."""
        self._alive = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        for _ in range(count):
            self._add()
        self._relief = threading.Thread(target=self._relieve_until_the_end, name="relief-of-answers", daemon=True)
        self._relief.start()

    @property
    def in_progress(self) -> int:
        """The number of tasks that run or wait."""
        return self._tasks.qsize() + len(self._running)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Any:
        """Queue a task; return an object that calls back when the task is done."""
        task = _Task(partial(fn, *args))
        self._tasks.put(task)
        waiting = len(self._waiting)
        if waiting >= _RESERVE and self._alive - waiting <= _RESERVE and self._alive < self._most:
            self._add()
        return task

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """End the threads once all queued tasks are done."""
        self._ended.set()
        self._relief.join()  # no thread is added from here on
        for _ in range(self._alive):
            self._tasks.put(None)

    def _relieve(self) -> None:
        """Replace the blocked threads by others, with some in reserve."""
        since = time.monotonic() - _BLOCKED_SECONDS
        blocked = max(sum(begun < since for begun in self._running.copy().values()), self._waiting.late(_LATE_SECONDS))
        wanted = self._count
        if blocked >= self._alive:
            wanted = self._alive + max(_RESERVE, self._tasks.qsize())
        elif blocked:
            wanted = blocked + self._count + _RESERVE
        self._wanted = min(wanted, self._most)
        for _ in range(self._wanted - self._alive):
            self._add()

    def _relieve_until_the_end(self) -> None:
        while not self._ended.wait(_LATE_SECONDS):
            self._relieve()

    def _add(self) -> None:
        with self._lock:
            self._alive += 1
            name = f"answer-{self._alive}"
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:  # the system allows no more: tasks wait for the others
            with self._lock:
                self._alive -= 1

    def _run(self) -> None:
        me = threading.get_ident()
        while True:
            try:
                task = self._tasks.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                if self._is_spare():
                    return
                continue
            if task is None:
                break
            self._running[me] = time.monotonic()
            task.run()
            del task, self._running[me]  # otherwise the task would live until the next one
            if self._alive > self._wanted and self._is_spare():
                return
        with self._lock:
            self._alive -= 1

    def _is_spare(self) -> bool:
        with self._lock:
            if self._alive <= self._wanted or self._ended.is_set():
                return False
            self._alive -= 1
            return True
