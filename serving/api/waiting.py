"""Requests that hold a thread while they wait for their caller, such as for the body after the headers."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc

Message = TypeVar("Message")


class WaitingRequests:
    """Bounds how many requests wait for their callers, and for how long; safe for concurrent use by threads.

    A complete request passes in a fraction of a millisecond. A caller that stops half-way gives way: at `most`, the
    request that has waited longest is cancelled, so that a new caller is never refused because of those before it.

    Args:
        most: Maximum number of requests that wait at the same time.
        seconds: Maximum time that a request waits.
        clock: Returns seconds of a monotonic clock.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic):
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._since: dict[grpc.ServicerContext, float] = {}  # in the order of their beginning
        self._lock = threading.Lock()
        self._others: list[WaitingRequests] = []

    def __len__(self) -> int:
        return len(self._since)

    def late(self, seconds: float) -> int:
        """Return the number of requests that have waited longer than some seconds."""
        limit = self._clock() - seconds
        return sum(since < limit for since in self._since.copy().values())

    def like(self, most: int, seconds: float | None = None) -> "WaitingRequests":
        """Return the same for other requests, with a maximum of their own, cancelled together with these."""
        self._others.append(WaitingRequests(most, self._seconds if seconds is None else seconds, self._clock))
        return self._others[-1]

    def body(self, messages: Iterator[Message], context: grpc.ServicerContext) -> Message | None:
        """Wait for the first message of a request; None if the caller ends the request without one.

        Raises:
            grpc.RpcError: If the request was cancelled, by its caller or because it gave way.
        """
        self.begin(context)
        try:
            message = next(messages, None)
        finally:
            gave_way = not self.end(context)
        if message is None and gave_way:  # gRPC may end the messages before it tells that the request was cancelled
            raise grpc.RpcError
        return message

    def begin(self, context: grpc.ServicerContext) -> None:
        """Let a request wait; at the maximum, cancel the one that has waited longest."""
        with self._lock:
            oldest: Any = next(iter(self._since)) if len(self._since) >= self._most else None
            if oldest is not None:
                del self._since[oldest]
            self._since[context] = self._clock()
        if oldest is not None:
            oldest.cancel()

    def end(self, context: grpc.ServicerContext) -> bool:
        """Tell that a request waits no longer; return False if it gave way before."""
        with self._lock:
            return self._since.pop(context, None) is not None

    def cancel_late(self) -> None:
        """Cancel the requests that have waited too long; called several times a second."""
        limit = self._clock() - self._seconds
        with self._lock:
            late: list[Any] = [context for context, since in self._since.items() if since < limit]
            for context in late:
                del self._since[context]
        for context in late:
            context.cancel()
        for other in self._others:
            other.cancel_late()
