"""Functions that send requests to a service, or to its parts without a network, and read the responses."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recommendations.v1 import recommendations_pb2 as pb

from recsys.errors import RecsysError
from serving.answers.pages import PageRequest
from serving.answers.top_sales import TopSales
from tests.helpers.waiting import PATIENCE

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def answered(
    top_sales: TopSales, now: int, user_id: str = "", *, is_urgent: bool = False, policy: str = "meta", **asked: object
) -> pb.GetTopSalesResponse:
    """Return a page that is answered without a network, decoded from its wire format."""
    answer = top_sales.answer(PageRequest(user_id, policy, **asked), now, "r-1", lambda: is_urgent)
    response = pb.GetTopSalesResponse.FromString(answer.written)
    assert [sale.rank for sale in response.sales] == list(range(1, len(answer.page.picks) + 1))
    return response


def shown(response: pb.GetTopSalesResponse) -> list[str]:
    return [sale.sale_id for sale in response.sales]


def refusal_of(call: Callable[[], object]) -> RecsysError | None:
    """Return the RecsysError that a call raises, or None."""
    try:
        call()
    except RecsysError as error:
        return error
    return None


def check_health(target: str, service: str = "") -> int:
    with grpc.insecure_channel(target) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE).status


@contextmanager
def held_answers() -> Iterator[threading.Event]:
    """Let every page of this process wait until the event is set."""
    free, answer = threading.Event(), TopSales.answer

    def held_up(*arguments: object) -> object:
        free.wait(PATIENCE)
        return answer(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TopSales, "answer", held_up)
        yield free
