"""A small client of the service."""

from typing import NoReturn

import grpc
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.errors import RecsysError
from serving.interceptors import ERROR_KEY, STATUS_CODES

_ERRORS = {error.__name__: error for error in STATUS_CODES}


def top_sales(
    target: str, user_id: str, n: int = 0, policy: str | None = None, timeout: float = 2.0
) -> pb.GetTopSalesResponse:
    """Ask a service for one home page.

    Args:
        target: Where it listens, host:port.
        user_id: Whose home page; empty for an anonymous visit.
        n: How many sales, in 1..100, or 0 for the service's default.
        policy: What orders the sales; None for the service's default.
        timeout: Seconds to wait for the answer.

    Raises:
        RecsysError: If there is no answer; of the class that the service raised, where it did.
    """
    request = pb.GetTopSalesRequest(user_id=user_id, n=_checked_int32(n), policy=policy or "")
    with grpc.insecure_channel(target) as channel:
        try:
            return pb_grpc.RecommendationsStub(channel).GetTopSales(request, timeout=timeout)
        except grpc.RpcError as error:
            _raise(error, target, timeout)


def _checked_int32(n: int) -> int:
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
