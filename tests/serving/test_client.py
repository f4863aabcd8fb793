import socket

import pytest

from recsys.errors import ConfigurationError, RecsysError, SnapshotError
from serving.client import top_sales


def test_no_service_is_an_error_that_says_how_to_start_one():
    with socket.create_server(("127.0.0.1", 0)) as free:
        target = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(RecsysError, match=f"no service at {target}: start it with 'recsys serve'"):
        top_sales(target, "ann", timeout=10)


def test_service_that_does_not_answer_is_an_error_that_says_how_long_it_was_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RecsysError, match=rf"no answer from {target} within 0\.1 s"):
            top_sales(target, "ann", timeout=0.1)


def test_errors_of_the_service_come_back_as_the_same_class(shop, published):
    server = published.serve()
    with pytest.raises(ConfigurationError, match="n == 101"):
        top_sales(server.target, "ann", n=101, timeout=10)


def test_service_without_snapshot_is_told_from_no_service(shop):
    with pytest.raises(SnapshotError, match="no snapshot is loaded"):
        top_sales(shop.serve().target, "ann", timeout=10)


def test_number_that_does_not_fit_the_wire_is_refused_by_the_service(published):
    with pytest.raises(ConfigurationError, match="n == 2147483647, must be in 1"):
        top_sales(published.serve().target, "ann", n=1 << 40, timeout=10)
