import threading
from contextlib import suppress

from serving.api import turns as turns_module
from serving.api.turns import Turns
from serving.errors import CallerLeftError
from tests.helpers.waiting import PATIENCE, wait_until


def test_only_so_many_pages_are_made_at_the_same_time():
    turns, go, began = Turns(2), threading.Event(), []

    def make() -> None:
        with turns.page():
            began.append(1)
            go.wait(PATIENCE)

    threads = [threading.Thread(target=make) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(began) == 2)
    assert not go.wait(0.05)
    assert len(began) == 2
    go.set()
    for thread in threads:
        thread.join()
    assert len(began) == 5


def test_page_of_a_batch_waits_while_a_single_page_is_in_progress(monkeypatch):
    monkeypatch.setattr(turns_module, "_MOST_WAIT_SECONDS", 60)
    turns, made = Turns(2), threading.Event()

    def make() -> None:
        with turns.page_of_batch():
            made.set()

    thread = threading.Thread(target=make)
    with turns.page():
        thread.start()
        assert not made.wait(0.05)
    assert made.wait(PATIENCE)
    thread.join()


def test_page_of_a_batch_is_made_at_last_under_constant_load():
    turns = Turns(2)
    with turns.page(), turns.page_of_batch():
        pass


def test_batches_are_answered_one_after_the_other_and_one_whose_caller_left_not_at_all():
    turns, began, is_wanted = Turns(2), threading.Event(), [True]
    errors = []

    def answer() -> None:
        try:
            with turns.batch(lambda: is_wanted[0]):
                began.set()
        except CallerLeftError as error:
            errors.append(error)

    thread = threading.Thread(target=answer)
    with turns.batch(lambda: True):
        thread.start()
        assert not began.wait(0.1)
        is_wanted[0] = False
        thread.join(PATIENCE)
    assert (began.is_set(), len(errors)) == (False, 1)
    with turns.batch(lambda: True):  # the turn is free again
        pass


def test_turn_is_free_after_an_error():
    turns = Turns(1)
    for _ in range(3):
        with suppress(ZeroDivisionError), turns.batch(lambda: True), turns.page():
            raise ZeroDivisionError
    with turns.page_of_batch():
        pass
