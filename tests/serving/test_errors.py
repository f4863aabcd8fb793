import inspect

import grpc

from recsys import errors
from serving.errors import STATUS_CODES


def test_every_error_has_a_status_code():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert all(any(base in STATUS_CODES for base in kind.__mro__) for kind in kinds)


def test_invalid_argument_is_only_for_errors_of_the_caller():
    blamed = {kind for kind, code in STATUS_CODES.items() if code == grpc.StatusCode.INVALID_ARGUMENT}
    assert blamed == {errors.ConfigurationError, errors.InputError}
