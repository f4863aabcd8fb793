import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.api.health_checks import HealthChecks
from tests.helpers.asking import NOT_SERVING, SERVING, check_health, wait_until
from tests.helpers.raw_http2 import unread_request

WATCH = "/grpc.health.v1.Health/Watch"


def test_states_are_set_until_the_process_drains():
    checks = HealthChecks()
    assert checks.state("a") is None
    checks.set("a", SERVING)
    assert checks.state("a") == SERVING
    checks.drain()
    checks.set("a", SERVING)
    assert checks.state("a") == NOT_SERVING


def test_watcher_is_told_changes_and_nothing_while_a_state_stays():
    checks, callbacks, told = HealthChecks(), [], []
    active = [True]
    context = SimpleNamespace(add_callback=callbacks.append, is_active=lambda: active[0])

    def watch() -> None:
        for state in checks.changes("a", context):
            told.append(state)  # one by one, as they come

    thread = threading.Thread(target=watch)
    thread.start()
    wait_until(lambda: told == [health_pb2.HealthCheckResponse.SERVICE_UNKNOWN])
    for state in (SERVING, SERVING, NOT_SERVING, SERVING):
        checks.set("a", state)
        checks.set("b", state)
        wait_until(lambda state=state: told[-1] == state)
    active[0] = False
    for callback in callbacks:
        callback()
    thread.join(30)
    assert told[1:] == [SERVING, NOT_SERVING, SERVING]


def test_watcher_who_leaves_wakes_no_other():
    checks, told, looks = HealthChecks(), [], []
    leaver = SimpleNamespace(left=[], is_active=lambda: True)
    leaver.add_callback = leaver.left.append
    next(checks.changes("a", leaver))

    def is_active() -> bool:
        looks.append(1)
        return len(told) < 2

    def watch() -> None:
        for state in checks.changes("a", SimpleNamespace(add_callback=lambda _: None, is_active=is_active)):
            told.append((state, len(looks)))

    thread = threading.Thread(target=watch)
    thread.start()
    wait_until(lambda: len(looks) == 2)  # it has told the first state, and waits for the next one
    for _ in range(20):
        leaver.left[0]()
        time.sleep(0.001)  # in which a watcher that is woken would look
    checks.set("a", SERVING)
    thread.join(30)
    assert told == [(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN, 1), (SERVING, 3)]


def test_unknown_check_is_not_found(published):
    with pytest.raises(grpc.RpcError) as error:
        check_health(published.serve().target, "unknown")
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_watchers_who_do_not_read_or_leave_stop_neither_changes_nor_checks(published):
    server = published.serve()
    message = health_pb2.HealthCheckRequest(service="x").SerializeToString()
    with ExitStack() as stack, grpc.insecure_channel(server.target) as channel:
        for _ in range(100):
            stack.enter_context(unread_request(server.target, WATCH, message))
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="x"), timeout=30)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        for state in (SERVING, NOT_SERVING, SERVING):
            server.health.set("x", state)
            assert next(watched).status == state
        stack.pop_all().close()  # all leave at once
        server.health.set("x", NOT_SERVING)
        assert next(watched).status == NOT_SERVING
        assert check_health(server.target, "x") == NOT_SERVING
