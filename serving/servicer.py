"""The methods of `recommendations.v1.Recommendations`: check the request, ask the snapshot."""

from collections.abc import Callable

import grpc
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.errors import ConfigurationError
from serving.clocks import Clock
from serving.top_sales import TopSales

DEFAULT_N = 10
MAX_N = 100


class RecommendationsServicer(pb_grpc.RecommendationsServicer):
    """Answers from the snapshot that is served at the moment of the request."""

    def __init__(self, served: Callable[[], TopSales], clock: Clock, default_policy: str):
        self._served = served
        self._clock = clock
        self._default_policy = default_policy

    def GetTopSales(  # noqa: N802
        self,
        request: pb.GetTopSalesRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.GetTopSalesResponse:
        """Return one home page."""
        n = _checked_n(request.n)
        top_sales = self._served()
        return top_sales.answer(request.user_id, request.policy or self._default_policy, n, self._clock())


def _checked_n(n: int) -> int:
    if not 0 <= n <= MAX_N:
        raise ConfigurationError(f"n == {n}, must be in 1..{MAX_N}, or 0 for {DEFAULT_N}")
    return n or DEFAULT_N
