"""A real Redis for the tests that need one, emptied before each test."""

import os
import sys
from collections.abc import Callable, Iterator

import pytest
import redis

from recsys.config.serving import StoreSettings
from serving.stores.redis_snapshots import push
from tests.helpers.real_redis import RealRedis


@pytest.fixture
def own_environment() -> dict[str, str]:
    """The environment of a process that imports the same modules as the tests."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture(scope="session")
def real_redis(tmp_path_factory) -> Iterator[RealRedis]:
    server = RealRedis(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def server(real_redis) -> Iterator[redis.Redis]:
    """A client of the empty server, independent of the store under test."""
    with real_redis.connection() as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def settings(real_redis, server) -> StoreSettings:
    return StoreSettings(kind="redis", url=real_redis.url, prefix="shop:", timeout_seconds=0.5)


@pytest.fixture
def publish(settings, shop) -> Callable[[], str]:
    return lambda: push(settings, shop.root, progress=lambda *_: None)
