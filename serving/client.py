"""A Python client of the service, with deadlines, retries and a fallback page.

client = Client("recsys.internal:50051", deadline=0.1, fallback=last_good_page)
page = client.top_sales("u-01879", session=["s-005194"])
...
client.record([visit("u-01879", page.sales[0].sale_id, page.request_id)])
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from ipaddress import IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypedDict, Unpack
from uuid import uuid4

import grpc
from recommendations.v1 import admin_pb2, admin_pb2_grpc
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.errors import ConfigurationError, RecsysError
from recsys.instants import to_micros
from recsys.wording import plural
from serving.addresses import check_address, proxy_options, refuse_token_in_the_clear, unavailable
from serving.errors import ERROR_KEY, STATUS_CODES

_ERRORS = {error.__name__: error for error in STATUS_CODES}
_RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.02s",
    "maxBackoff": "0.2s",
    "backoffMultiplier": 3,
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
"""Every method is safe to retry. A process that shuts down answers CANCELLED to requests that arrive too late.
RESOURCE_EXHAUSTED and DEADLINE_EXCEEDED are not retried: the service is overloaded."""

_USE_TLS = "give --authority (`credentials`), or allow it with --plain-token (`plain_token`)"
_LISTED = 3  # refused events that an error names

Fallback = Callable[[pb.GetTopSalesRequest, RecsysError], pb.GetTopSalesResponse]


class RefusedEventsError(ConfigurationError):
    """Some events break a rule and were not recorded; the others were."""

    def __init__(self, response: pb.RecordEventsResponse):
        self.response = response
        refused, total = len(response.refused), response.recorded + len(response.refused)
        listed = "; ".join(event.reason for event in response.refused[:_LISTED])
        more = f"; and {refused - _LISTED} more" if refused > _LISTED else ""
        super().__init__(f"{refused} of {plural(total, 'event')} refused, the others are recorded: {listed}{more}")


class PageOptions(TypedDict, total=False):
    """What may be said of a page, beside whose it is and how long; the fields of `GetTopSalesRequest`."""

    policy: str
    session: Sequence[str]
    """Ids of the sales that the visitor just looked at."""
    attributes: Mapping[str, str] | None
    """Of the visitor."""
    surface: str
    language: str
    """Of the reasons, such as fr."""
    allowed: Sequence[str]
    denied: Sequence[str]
    explain: bool
    request_id: str
    answer_time: datetime | None
    """The instant that the page is for, with its time zone; None for the present."""
    only: Mapping[str, Sequence[str]] | None
    """Values by attribute: only sales with one of the values of each attribute."""
    without: Mapping[str, Sequence[str]] | None
    """Values by attribute: no sale with one of these values."""
    preview: bool
    """Whether the page is shown to no user, and so neither logged nor counted."""
    without_rules: bool
    """Of a preview, whether the shop's rules are left out."""
    ranking: str
    """Of a preview, what ranks: live or snapshot."""


class Client:
    """A client with one connection; safe for concurrent use by threads.

    Args:
        target: The address of the service, host:port.
        deadline: Seconds to wait for each answer, retries included.
        token: The caller's token, if the service requires one. It leaves this machine over TLS only.
        credentials: For a TLS connection; `grpc.ssl_channel_credentials()` trusts the usual certificate authorities.
        fallback: Returns the page to show when a request for a page fails; without it, the error is raised.
        admin_target: The address of the admin service, host:port.
        plain_token: Whether the token may be sent to another machine without TLS, such as to a proxy that adds it.

    Raises:
        ConfigurationError: If an address is none, the token cannot be sent, or there is a token, no `credentials`, and
            an address is another machine.
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
        plain_token: bool = False,
    ):
        for address in (target, admin_target):
            if address is not None:
                check_address(address)
        if token and not (token.isascii() and token.isprintable()):
            raise ConfigurationError(
                "the token must be of printable ASCII characters, as headers are: check how it is read"
            )
        if token and credentials is None and not plain_token:
            for address in filter(None, (target, admin_target)):
                refuse_token_in_the_clear(address, _USE_TLS)
        self.target = target
        self._deadline = deadline
        self._metadata = [("authorization", f"Bearer {token}")] if token else None
        self._fallback = fallback
        self._credentials = credentials
        self._channel = _channel(target, credentials)
        self._stub = pb_grpc.RecommendationsStub(self._channel)
        self._admin_target = admin_target

    def top_sales(self, user_id: str = "", n: int = 0, **options: Unpack[PageOptions]) -> pb.GetTopSalesResponse:
        """Request a page; the arguments are the fields of `GetTopSalesRequest`.

        Args:
            user_id: The user; empty for an anonymous visitor.
            n: Number of sales; 0 stands for 10.
            options: See `PageOptions`.

        Raises:
            RecsysError: If the request fails and there is no fallback; of the same class as the service's own error.
        """
        request = _page_request(user_id, n, **options)
        return self._page(self._stub.GetTopSales, request, request)

    def similar_sales(
        self, sale_id: str, n: int = 0, *, user_id: str = "", **options: Unpack[PageOptions]
    ) -> pb.GetTopSalesResponse:
        """Request open sales that resemble a sale, which may be closed; the most similar ones in the user's order.

        Args:
            sale_id: The sale.
            n: Number of sales; 0 stands for 10.
            user_id: The user; empty for an anonymous visitor.
            options: See `PageOptions`.

        Raises:
            RecsysError: If the request fails and there is no fallback; of the same class as the service's own error.
        """
        page = _page_request(user_id, n, **options)
        return self._page(self._stub.GetSimilarSales, pb.GetSimilarSalesRequest(sale_id=sale_id, page=page), page)

    def _page(self, method: Any, request: Any, page: pb.GetTopSalesRequest) -> pb.GetTopSalesResponse:
        try:
            return self._call(method, request)
        except RecsysError as error:
            if self._fallback is None:
                raise
            return self._fallback(page, error)

    def batch(self, requests: Iterable[pb.GetTopSalesRequest]) -> list[pb.GetTopSalesResponse]:
        """Request many pages at once; returns them in the same order.

        Raises:
            RecsysError: If the call fails, or one of the requests is invalid.
        """
        return list(self._call(self._stub.BatchGetTopSales, pb.BatchGetTopSalesRequest(requests=requests)).responses)

    def record(self, events: Iterable[pb.Event]) -> int:
        """Record visits and purchases, and return their number.

        To retry, pass the same events: those that were recorded before count once.

        Raises:
            RefusedEventsError: If some of them break a rule; the others are recorded.
            RecsysError: If they were not written to the service's disk.
        """
        response = self._call(self._stub.RecordEvents, pb.RecordEventsRequest(events=events))
        if response.refused:
            raise RefusedEventsError(response)
        return response.recorded

    def admin(self, method: str, request: Any) -> Any:
        """Call a method of the admin service, such as `CloseSale`.

        Raises:
            RecsysError: If the call fails.
        """
        if self._admin_target is None:
            raise RecsysError("admin_target == None, must be the address of the admin port: pass it to Client")
        with _channel(self._admin_target, self._credentials) as channel:
            return self._call(getattr(admin_pb2_grpc.AdminStub(channel), method), request, self._admin_target)

    def status(self) -> admin_pb2.GetStatusResponse:
        """Return the status of the service, as reported by its admin service."""
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

    def _call(self, method: Any, request: Any, target: str = "") -> Any:
        try:
            return method(request, timeout=self._deadline, metadata=self._metadata)
        except grpc.RpcError as error:
            _raise_recsys_error(error, target or self.target, self._deadline)


def _page_request(user_id: str, n: int, **options: Unpack[PageOptions]) -> pb.GetTopSalesRequest:
    """Return the message of a request."""
    request = pb.GetTopSalesRequest(
        user_id=user_id,
        n=_clamp_to_int32(n),
        policy=options.get("policy", ""),
        session_sale_ids=options.get("session", ()),
        attributes=options.get("attributes") or {},
        surface=options.get("surface", ""),
        language=options.get("language", ""),
        allowed_sale_ids=options.get("allowed", ()),
        denied_sale_ids=options.get("denied", ()),
        explain=options.get("explain", False),
        request_id=options.get("request_id", ""),
        preview=options.get("preview", False),
        without_rules=options.get("without_rules", False),
        ranking=options.get("ranking", ""),
        filters=[
            pb.AttributeFilter(attribute=attribute, values=values, exclude=exclude)
            for exclude, filters in ((False, options.get("only")), (True, options.get("without")))
            for attribute, values in (filters or {}).items()
        ],
    )
    if (instant := options.get("answer_time")) is not None:
        request.answer_time.FromMicroseconds(to_micros(instant))
    return request


def trusting(authority: Path | None) -> grpc.ChannelCredentials | None:
    """Return credentials that trust the certificate authority of a PEM file; None without a file.

    Raises:
        ConfigurationError: If the file cannot be read, or holds no certificate.
    """
    if authority is None:
        return None
    try:
        content = authority.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"--authority == {str(authority)!r}, must be a readable file: {error.strerror}"
        ) from None
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise ConfigurationError(f"--authority == {str(authority)!r}, must be a PEM file that holds a certificate")
    return grpc.ssl_channel_credentials(content)


def visit(user_id: str, sale_id: str, token: str = "") -> pb.Event:
    """Return a visit at present; the token is the request id of the page that led to it."""
    return _event_at_present(user_id, sale_id, pb.EVENT_KIND_VISIT, token)


def purchase(user_id: str, sale_id: str, token: str = "", revenue: float | None = None) -> pb.Event:
    """Return a purchase at present; the token is the request id of the page that led to it."""
    return _event_at_present(user_id, sale_id, pb.EVENT_KIND_PURCHASE, token, revenue)


def _event_at_present(
    user_id: str, sale_id: str, kind: pb.EventKind, token: str, revenue: float | None = None
) -> pb.Event:
    """Return an event with its instant and an id, by which the service knows it however often it is sent."""
    event = pb.Event(
        user_id=user_id, sale_id=sale_id, kind=kind, attribution_token=token, revenue=revenue, event_id=uuid4().hex
    )
    event.occur_time.GetCurrentTime()
    return event


def top_sales(
    target: str, user_id: str, n: int = 0, policy: str | None = None, timeout: float = 2.0, session: Sequence[str] = ()
) -> pb.GetTopSalesResponse:
    """Request one page, over a new connection.

    Args:
        target: The address of the service, host:port.
        user_id: The user; empty for an anonymous visitor.
        n: The number of sales, in 1..100, or 0 for the service's default.
        policy: The policy that orders the sales; None for the service's default.
        timeout: Seconds to wait for the answer.
        session: The ids of the sales that the user looked at in the running session.

    Raises:
        RecsysError: If the request fails; of the same class as the service's own error.
    """
    with Client(target, deadline=timeout) as client:
        return client.top_sales(user_id, n, policy=policy or "", session=session)


def _channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": [{"service": "recommendations.v1.Recommendations"}], "retryPolicy": _RETRIES}],
    }
    # Otherwise all clients of a process would share one connection, and with it one worker of the service.
    own_connection = ("grpc.use_local_subchannel_pool", 1)
    # A connection to a process that is shutting down fails: reconnect before the retries are used up.
    quick_reconnect = ("grpc.initial_reconnect_backoff_ms", 100)
    options = [("grpc.service_config", json.dumps(config)), ("grpc.enable_retries", 1), own_connection, quick_reconnect]
    options += proxy_options(target)
    if credentials is None:
        return grpc.insecure_channel(_in_brackets(target), options)
    return grpc.secure_channel(_in_brackets(target), credentials, options)


def _in_brackets(target: str) -> str:
    """Return `[::1]:50051` for `::1:50051`, and other targets unchanged."""
    host, _, port = target.rpartition(":")
    with suppress(ValueError):
        return f"[{IPv6Address(host)}]:{port}"
    return target


def _clamp_to_int32(n: int) -> int:
    return max(min(n, (1 << 31) - 1), -(1 << 31))  # the service then names the rule that it breaks


def _raise_recsys_error(error: grpc.RpcError, target: str, timeout: float) -> NoReturn:
    metadata = {entry.key: entry.value for entry in error.trailing_metadata() or ()}
    kind = _ERRORS.get(str(metadata.get(ERROR_KEY)))
    if kind is not None:
        raise kind(error.details()) from None
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        raise RecsysError(unavailable(target, error)) from None
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        raise RecsysError(
            f"no answer from {target} within {timeout:g} s: check that it is reachable from here, see the service's "
            "log, or set a longer deadline"
        ) from None
    told = f"{target} answered {error.code().name}: {error.details()}"
    if error.code() == grpc.StatusCode.UNIMPLEMENTED:
        told += (
            "; pages and events have one port ('serving.port'), sales and the status another ('serving.admin_port'): "
            "correct the address"
        )
    raise RecsysError(told) from None
