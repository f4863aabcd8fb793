import logging
import threading

import pytest

from serving.telemetry.troubles import Troubles


@pytest.fixture
def troubles(caplog) -> Troubles:
    caplog.set_level(logging.INFO)
    return Troubles()


def test_problem_is_logged_once_and_listed_while_it_lasts(troubles, caplog):
    for _ in range(3):
        troubles.note("store", "is gone")
        assert troubles.listed() == ["store: is gone"]
    assert caplog.messages == ["store: is gone"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_changed_problem_is_logged_again(troubles, caplog):
    troubles.note("store", "is slow")
    troubles.note("store", "is gone")
    assert troubles.listed() == ["store: is gone"]
    assert caplog.messages == ["store: is slow", "store: is gone"]


def test_recovery_is_logged_once_and_so_is_a_problem_that_returns(troubles, caplog):
    for _ in range(2):
        troubles.note("store", "is gone")
        troubles.clear("store")
        troubles.clear("store")
    assert troubles.listed() == []
    assert caplog.messages == ["store: is gone", "store: recovered"] * 2


def test_kinds_are_independent_and_listed_in_alphabetical_order(troubles):
    for kind in ("snapshot", "exposures", "rules"):
        troubles.note(kind, "!")
    troubles.clear("rules")
    troubles.clear("never noted")
    assert troubles.listed() == ["exposures: !", "snapshot: !"]


def test_threads_that_note_and_clear_at_the_same_time_never_fail(troubles):
    failures = []

    def work(kind: str) -> None:
        try:
            for number in range(500):
                troubles.note(kind, str(number % 3))
                troubles.listed()
                troubles.clear("a")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(kind,)) for kind in "aab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert troubles.listed() == ["b: 1"]
