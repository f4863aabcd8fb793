"""A client of the service for Python: deadlines, retries, and a page of one's own where there is no answer.

client = Client("recsys.internal:50051", deadline=0.1, fallback=last_good_page)
page = client.top_sales("u-01879", session=["s-005194"])
...
client.record([visit("u-01879", page.sales[0].sale_id, page.request_id)])
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import grpc
from recommendations.v1 import admin_pb2, admin_pb2_grpc
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.errors import RecsysError
from serving.errors import ERROR_KEY, STATUS_CODES

_ERRORS = {error.__name__: error for error in STATUS_CODES}
_RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.02s",
    "maxBackoff": "0.2s",
    "backoffMultiplier": 3,
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
"""Every method is safe to retry. A process that ends answers CANCELLED to what reaches it in its last moment.
RESOURCE_EXHAUSTED and DEADLINE_EXCEEDED are not retried: the service is busy."""

Fallback = Callable[[pb.GetTopSalesRequest, RecsysError], pb.GetTopSalesResponse]


class Client:
    """Keeps one connection; any number of threads may use it.

    Args:
        target: Where the service listens, host:port.
        deadline: Seconds that a caller waits for a page, retries included.
        token: Where the service asks for one.
        credentials: For an encrypted connection; `grpc.ssl_channel_credentials()` trusts the usual authorities.
        fallback: Returns the page to show where there is no answer; without it, the error is raised.
        admin_target: Where the admin service listens.
    """

    def __init__(
        self,
        target: str,
        *,
        deadline: float = 1.0,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        fallback: Fallback | None = None,
        admin_target: str | None = None,
    ):
        self.target = target
        self._deadline = deadline
        self._metadata = [("authorization", f"Bearer {token}")] if token else None
        self._fallback = fallback
        self._credentials = credentials
        self._channel = _channel(target, credentials)
        self._stub = pb_grpc.RecommendationsStub(self._channel)
        self._admin_target = admin_target

    def top_sales(
        self,
        user_id: str = "",
        n: int = 0,
        *,
        policy: str = "",
        session: Sequence[str] = (),
        attributes: Mapping[str, str] | None = None,
        surface: str = "",
        allowed: Sequence[str] = (),
        denied: Sequence[str] = (),
        explain: bool = False,
        request_id: str = "",
    ) -> pb.GetTopSalesResponse:
        """Ask for a page; the arguments are the fields of `GetTopSalesRequest`.

        Raises:
            RecsysError: If there is no answer and no fallback; of the class that the service raised, where it did.
        """
        request = pb.GetTopSalesRequest(
            user_id=user_id,
            n=_int32(n),
            policy=policy,
            session_sale_ids=session,
            attributes=attributes or {},
            surface=surface,
            allowed_sale_ids=allowed,
            denied_sale_ids=denied,
            explain=explain,
            request_id=request_id,
        )
        try:
            return self._call(self._stub.GetTopSales, request)
        except RecsysError as error:
            if self._fallback is None:
                raise
            return self._fallback(request, error)

    def batch(self, requests: Iterable[pb.GetTopSalesRequest]) -> list[pb.GetTopSalesResponse]:
        """Ask for many pages at once; returns them in the same order.

        Raises:
            RecsysError: If there is no answer, or a request breaks a rule.
        """
        return list(self._call(self._stub.BatchGetTopSales, pb.BatchGetTopSalesRequest(requests=requests)).responses)

    def record(self, events: Iterable[pb.Event]) -> int:
        """Record visits and purchases; returns how many.

        Raises:
            RecsysError: If they are not on the service's disk.
        """
        return self._call(self._stub.RecordEvents, pb.RecordEventsRequest(events=events)).recorded

    def admin(self, method: str, request: Any) -> Any:
        """Call a method of the admin service, such as `CloseSale`.

        Raises:
            RecsysError: If it fails.
        """
        if self._admin_target is None:
            raise RecsysError("admin_target == None, must be the address of the admin port")
        with _channel(self._admin_target, self._credentials) as channel:
            return self._call(getattr(admin_pb2_grpc.AdminStub(channel), method), request)

    def status(self) -> admin_pb2.GetStatusResponse:
        """Ask the admin service how it is."""
        return self.admin("GetStatus", admin_pb2.GetStatusRequest())

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._deadline, metadata=self._metadata)
        except grpc.RpcError as error:
            _raise(error, self.target, self._deadline)


def trusting(authority: Path | None) -> grpc.ChannelCredentials | None:
    """Return what encrypts a connection to a service whose certificate depends on a PEM file; None for no file."""
    return grpc.ssl_channel_credentials(authority.read_bytes()) if authority else None


def visit(user_id: str, sale_id: str, token: str = "") -> pb.Event:
    """Return a visit, that the page of that request id led to."""
    return pb.Event(user_id=user_id, sale_id=sale_id, kind=pb.EVENT_KIND_VISIT, attribution_token=token)


def purchase(user_id: str, sale_id: str, token: str = "", revenue: float | None = None) -> pb.Event:
    """Return a purchase, that the page of that request id led to."""
    return pb.Event(
        user_id=user_id, sale_id=sale_id, kind=pb.EVENT_KIND_PURCHASE, attribution_token=token, revenue=revenue
    )


def top_sales(
    target: str, user_id: str, n: int = 0, policy: str | None = None, timeout: float = 2.0, session: Sequence[str] = ()
) -> pb.GetTopSalesResponse:
    """Ask a service for one page, on a connection of its own.

    Args:
        target: Where it listens, host:port.
        user_id: Whose page; empty for an anonymous visit.
        n: How many sales, in 1..100, or 0 for the service's default.
        policy: What orders the sales; None for the service's default.
        timeout: Seconds to wait for the answer.
        session: Sales that the visitor looked at a moment ago.

    Raises:
        RecsysError: If there is no answer; of the class that the service raised, where it did.
    """
    with Client(target, deadline=timeout) as client:
        return client.top_sales(user_id, n, policy=policy or "", session=session)


def _channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": [{"service": "recommendations.v1.Recommendations"}], "retryPolicy": _RETRIES}],
    }
    # A connection of one's own: else all clients of a process would share one, and with it one worker of the service.
    alone = ("grpc.use_local_subchannel_pool", 1)
    # A connection that a process took in its last moment fails: the next one is tried before the retries are spent.
    soon = ("grpc.initial_reconnect_backoff_ms", 100)
    options = [("grpc.service_config", json.dumps(config)), ("grpc.enable_retries", 1), alone, soon]
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def _int32(n: int) -> int:
    return max(min(n, (1 << 31) - 1), -(1 << 31))  # the service says what is wrong with it


def _raise(error: grpc.RpcError, target: str, timeout: float) -> NoReturn:
    metadata = {entry.key: entry.value for entry in error.trailing_metadata() or ()}
    kind = _ERRORS.get(str(metadata.get(ERROR_KEY)))
    if kind is not None:
        raise kind(error.details()) from None
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        raise RecsysError(f"no service at {target}: start it with 'recsys serve'") from None
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        raise RecsysError(
            f"no answer from {target} within {timeout} s: see the service's log, or wait longer"
        ) from None
    raise RecsysError(f"{target} answered {error.code().name}: {error.details()}") from None
