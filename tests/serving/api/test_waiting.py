import threading
from collections.abc import Iterator

import grpc
import pytest

from serving.api.waiting import WaitingRequests
from tests.helpers.waiting import PATIENCE


class Call:
    """A request; its caller sends the body, or the request is cancelled."""

    def __init__(self, body: bytes | None = None):
        self.body = body
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()

    def messages(self) -> Iterator[bytes]:
        if self.body is not None:
            yield self.body
        elif self.cancelled.wait(PATIENCE):
            raise ConnectionError


class Seconds:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_body_is_returned_and_the_request_waits_no_longer():
    waiting = WaitingRequests(1, 5)
    for text in (b"one", b"two"):
        call = Call(text)
        assert waiting.body(call.messages(), call) == text
        assert not call.cancelled.is_set()
    assert len(waiting) == 0


def test_request_that_ends_without_a_body_has_none():
    assert WaitingRequests(1, 5).body(iter(()), Call()) is None


def test_oldest_gives_way_to_a_new_request_and_no_other():
    waiting, calls = WaitingRequests(2, 5), [Call() for _ in range(4)]
    for call in calls:
        waiting.begin(call)
    assert [call.cancelled.is_set() for call in calls] == [True, True, False, False]
    assert len(waiting) == 2


def test_cancelled_request_frees_its_thread():
    waiting, call = WaitingRequests(1, 5), Call()
    errors = []

    def wait() -> None:
        try:
            waiting.body(call.messages(), call)
        except ConnectionError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not len(waiting):
        pass
    other = Call(b"x")
    assert waiting.body(other.messages(), other) == b"x"
    thread.join(PATIENCE)
    assert len(errors) == 1


def test_request_that_gave_way_is_cancelled_even_if_its_messages_just_end():
    waiting, call = WaitingRequests(1, 5), Call()

    def messages() -> Iterator[bytes]:
        waiting.begin(Call())
        yield from ()

    with pytest.raises(grpc.RpcError):
        waiting.body(messages(), call)


@pytest.mark.parametrize(("after", "expected"), [(4.9, [False, False]), (5.1, [True, False]), (6.1, [True, True])])
def test_request_is_cancelled_after_the_time_limit(after, expected):
    clock = Seconds()
    waiting = WaitingRequests(9, 5, clock)
    first, second = Call(), Call()
    waiting.begin(first)
    clock.now += 1
    waiting.like(3).begin(second)  # cancelled together with the others
    clock.now += after - 1
    waiting.cancel_late()
    assert [first.cancelled.is_set(), second.cancelled.is_set()] == expected
