import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from serving.api.waiting import WaitingRequests
from serving.process import threads as threads_module
from serving.process.threads import AnswerThreads
from tests.helpers.waiting import PATIENCE, wait_until


class Held:
    """Tasks that block their threads until they are released."""

    def __init__(self, threads: AnswerThreads):
        self._threads = threads
        self._go = threading.Event()
        self.began = 0
        self._lock = threading.Lock()

    def hold(self, count: int) -> None:
        """Submit a number of tasks, without waiting for them to begin."""
        for _ in range(count):
            self._threads.submit(self._run)

    def let_go(self) -> None:
        self._go.set()

    def _run(self) -> None:
        with self._lock:
            self.began += 1
        self._go.wait(PATIENCE)


@pytest.fixture
def alive() -> Callable[[], int]:
    """Count the threads of a test's executors."""
    before = set(threading.enumerate())
    return lambda: sum(each.name.startswith("answer-") for each in set(threading.enumerate()) - before)


@pytest.fixture
def start(alive) -> Iterator[Callable[[int, int], AnswerThreads]]:
    started: list[AnswerThreads] = []

    def starting(count: int, most: int) -> AnswerThreads:
        started.append(AnswerThreads(count, most))
        return started[-1]

    yield starting
    for each in started:
        each.shutdown()
    wait_until(lambda: not alive())


@contextmanager
def held(threads: AnswerThreads) -> Iterator[Held]:
    tasks = Held(threads)
    try:
        yield tasks
    finally:
        tasks.let_go()


def test_no_threads_are_added_while_tasks_begin_in_time(start, alive, monkeypatch):
    monkeypatch.setattr(threads_module, "_BLOCKED_SECONDS", 60)
    threads, done, by = start(2, 8), threading.Semaphore(0), set()
    for _ in range(200):
        threads.submit(lambda: (by.add(threading.current_thread().name), done.release()))
        assert done.acquire(timeout=PATIENCE)
    assert by <= {"answer-1", "answer-2"}
    assert alive() == 2


def test_no_threads_are_added_while_tasks_only_compete(start, alive, monkeypatch):
    monkeypatch.setattr(threads_module, "_BLOCKED_SECONDS", 60)
    threads, done = start(2, 100), threading.Semaphore(0)
    with held(threads) as tasks:
        tasks.hold(2)
        threads.submit(done.release)
        assert not done.acquire(timeout=5 * threads_module._LATE_SECONDS)
        assert alive() == 2


def test_a_caller_that_is_late_holds_up_nobody(alive, monkeypatch):
    monkeypatch.setattr(threads_module, "_BLOCKED_SECONDS", 60)
    waiting = WaitingRequests(most=10, seconds=60)
    threads, done = AnswerThreads(1, 100, waiting), threading.Event()
    with held(threads) as tasks:
        waiting.begin(object())
        tasks.hold(1)
        threads.submit(done.set)
        assert done.wait(PATIENCE)
    threads.shutdown()
    wait_until(lambda: not alive())


def test_arguments_reach_the_task(start):
    threads, came = start(1, 1), []
    threads.submit(lambda *values: came.append(values), 1, "two")
    wait_until(lambda: came == [(1, "two")])


def test_task_begins_although_all_threads_are_blocked(start, alive):
    threads, done = start(2, 8), threading.Event()
    with held(threads) as tasks:
        tasks.hold(2)
        wait_until(lambda: tasks.began == 2)
        threads.submit(done.set)
        wait_until(done.is_set)
        assert alive() > 2


def test_threads_are_added_up_to_the_maximum(start, alive):
    threads, done = start(1, 3), threading.Event()
    with held(threads) as tasks:
        tasks.hold(5)
        wait_until(lambda: tasks.began == 3)
        threads.submit(done.set)
        assert not done.wait(0.1)
        assert (tasks.began, alive()) == (3, 3)
    assert done.wait(PATIENCE)
    assert tasks.began == 5


def test_added_threads_end_when_none_is_blocked_any_more(start, alive):
    threads, done = start(1, 4), threading.Semaphore(0)
    with held(threads) as tasks:
        tasks.hold(4)
        wait_until(lambda: tasks.began == 4)
    wait_until(lambda: alive() == 1)
    threads.submit(done.release)
    assert done.acquire(timeout=PATIENCE)


def test_threads_in_reserve_take_the_next_tasks_that_block(start, alive):
    threads, done = start(2, 100), threading.Event()
    with held(threads) as tasks:
        tasks.hold(2)
        wait_until(lambda: alive() == 2 + 2 + threads_module._RESERVE)
        tasks.hold(threads_module._RESERVE)
        threads.submit(done.set)
        assert done.wait(PATIENCE)
    wait_until(lambda: alive() == 2)  # also without another task


def test_tasks_that_run_or_wait_are_in_progress(start):
    threads = start(1, 1)
    with held(threads) as tasks:
        tasks.hold(3)
        wait_until(lambda: tasks.began == 1)
        assert threads.in_progress == 3
    wait_until(lambda: threads.in_progress == 0)


def test_task_that_fails_is_logged_and_its_thread_continues(start, alive, caplog):
    threads, done = start(1, 1), []
    threads.submit(lambda: 1 / 0).add_done_callback(done.append)
    threads.submit(int).add_done_callback(done.append)
    wait_until(lambda: len(done) == 2)
    (record,) = caplog.records
    assert record.getMessage() == "an answer failed"
    assert record.exc_info[0] is ZeroDivisionError
    assert alive() == 1


def test_callback_of_a_task_runs_once_whether_it_was_added_before_or_after_the_end(start):
    threads, early, late = start(1, 1), [], []
    with held(threads) as tasks:
        tasks.hold(1)
        before = threads.submit(int)
        before.add_done_callback(early.append)
        assert early == []
    wait_until(lambda: early == [before])
    before.add_done_callback(late.append)
    assert (early, late) == ([before], [before])


def test_shutdown_ends_every_thread_once_all_tasks_are_done(start, alive):
    threads, done = start(2, 4), []
    with held(threads) as tasks:
        tasks.hold(3)
        wait_until(lambda: tasks.began == 3)
        for number in range(10):
            threads.submit(done.append, number)
        threads.shutdown()
        assert alive() >= 3
    wait_until(lambda: not alive())
    assert sorted(done) == list(range(10))
