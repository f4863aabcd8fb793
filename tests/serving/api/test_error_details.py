import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from recommendations.v1 import recommendations_pb2 as pb

from recsys.errors import ConfigurationError, RecsysError, SnapshotError
from serving.api.error_details import DETAILS_KEY, trailers
from serving.errors import (
    CallerLeftError,
    FinalError,
    OverloadError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from tests.helpers.waiting import PATIENCE


def details(error: RecsysError) -> dict[type, object]:
    status = Status.FromString(dict(trailers(error))[DETAILS_KEY])
    assert status.message == str(error)
    found = {}
    for each in status.details:
        for kind in (BadRequest, ErrorInfo, RetryInfo):
            if each.Is(kind.DESCRIPTOR):
                found[kind] = kind.FromString(each.value)
    assert len(found) == len(status.details)
    return found


@pytest.mark.parametrize(
    ("error", "code", "reason", "retries"),
    [
        (UnauthenticatedError("the token is unknown"), 16, "UNAUTHENTICATED", False),
        (TooManyRequestsError("too many"), 8, "TOO_MANY_REQUESTS", True),
        (OverloadError("too many"), 8, "TOO_MANY_REQUESTS", True),
        (SnapshotError("none"), 14, "SNAPSHOT", True),
        (FinalError("closed"), 9, "FINAL", False),
        (CallerLeftError("left"), 1, "CALLER_LEFT", False),
    ],
)
def test_error_names_its_reason_and_when_to_retry(error, code, reason, retries):
    found = details(error)
    assert Status.FromString(dict(trailers(error))[DETAILS_KEY]).code == code
    assert (found[ErrorInfo].domain, found[ErrorInfo].reason) == ("recsys", reason)
    assert (RetryInfo in found) == retries
    assert BadRequest not in found


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("n == 200, must be in 1..100", "n"),
        ("requests[3].n == 200, must be in 1..100", "requests[3].n"),
        ("events[12].occur_time == 3 s, must be later", "events[12].occur_time"),
        ("session_sale_ids has 101 entries, must have at most 100", "session_sale_ids"),
        ("It went wrong", None),
    ],
)
def test_field_that_breaks_a_rule_is_named(message, field):
    violations = details(ConfigurationError(message)).get(BadRequest)
    assert (violations and violations.field_violations[0].field) == field
    assert violations is None or violations.field_violations[0].description == message


def test_details_reach_the_caller(published):
    request = pb.GetTopSalesRequest(n=200).SerializeToString()
    with grpc.insecure_channel(published.serve().target) as channel:
        ask = channel.unary_unary("/recommendations.v1.Recommendations/GetTopSales")
        with pytest.raises(grpc.RpcError) as error:
            ask(request, timeout=PATIENCE)
    status = Status.FromString(dict(error.value.trailing_metadata())[DETAILS_KEY])
    assert (status.code, status.message) == (3, "n == 200, must be in 1..100, or 0 for 10")
