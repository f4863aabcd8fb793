"""The trailing metadata of an error: its class for our own client, and `google.rpc.Status` for any other."""

import re
from functools import lru_cache
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from recsys.errors import ConfigurationError, RecsysError
from serving.errors import ERROR_KEY, RETRY_SECONDS, STATUS_CODES, listed_base

DETAILS_KEY = "grpc-status-details-bin"
_DOMAIN = "recsys"
_FIELD = re.compile(r"[a-z_]+(\[\w+\])?(\.[a-z_]+(\[\w+\])?)*(?= )")
"""The path of a field, with which the message of an error about a request begins: `requests[3].n == 200, must …`."""


def trailers(error: RecsysError) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata of an error.

    `ErrorInfo` names the class of the error, `BadRequest` the field that breaks a rule, and `RetryInfo` the time after
    which to retry, for errors that may end by themselves.
    """
    base: Any = listed_base(error)
    return _trailers(base, str(error))


@lru_cache(maxsize=64)  # a caller that is refused again and again costs less
def _trailers(base: type[RecsysError], message: str) -> tuple[tuple[str, str | bytes], ...]:
    status = Status(code=STATUS_CODES[base].value[0], message=message)
    details: list[Any] = [ErrorInfo(reason=_reason(base.__name__), domain=_DOMAIN)]
    field = _FIELD.match(message)
    if base is ConfigurationError and field is not None:
        violation = BadRequest.FieldViolation(field=field.group(), description=message)
        details.append(BadRequest(field_violations=[violation]))
    if base in RETRY_SECONDS:
        delay = Duration()
        delay.FromMilliseconds(round(1000 * RETRY_SECONDS[base]))
        details.append(RetryInfo(retry_delay=delay))
    for each in details:
        status.details.add().Pack(each)
    return (ERROR_KEY, base.__name__), (DETAILS_KEY, status.SerializeToString())


def _reason(name: str) -> str:
    """Return `TOO_MANY_REQUESTS` for `TooManyRequestsError`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removesuffix("Error")).upper()
