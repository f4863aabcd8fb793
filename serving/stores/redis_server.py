"""The connection to a Redis server: address, password and TLS, the names of keys, and errors in words."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from recsys.config.serving import StoreSettings
from recsys.errors import ConfigurationError, StoreError

USERNAME_VARIABLE = "RECSYS_REDIS_USERNAME"
PASSWORD_VARIABLE = "RECSYS_REDIS_PASSWORD"
_PAUSE_SECONDS = 1.0


class RedisServer:
    """A Redis server; while it is unreachable, at most one attempt per second waits for a timeout.

    Args:
        settings: Address, prefix and timeout.
    """

    def __init__(self, settings: StoreSettings):
        self.address = without_password(settings.url)
        self.client = connect(settings)
        self._prefix = settings.prefix
        self._down_until, self._why = 0.0, ""

    def key(self, name: str) -> str:
        """Return the name of a key in Redis."""
        return self._prefix + name

    def get(self, name: str) -> bytes | None:
        """Return the content of a key; None if it is absent."""
        with self.errors():
            found = self.client.get(self.key(name))
        assert not isinstance(found, str)  # the connection decodes nothing
        return found

    @contextmanager
    def errors(self, waits: bool = False) -> Iterator[None]:
        """Raise errors of Redis as StoreError.

        Args:
            waits: Whether the caller may wait for a timeout; others fail at once for a second after one.
        """
        if not waits and time.monotonic() < self._down_until:
            raise StoreError(self._why)
        try:
            yield
        except redis.RedisError as error:
            self._why = why_failed(self.address, error)
            if not isinstance(error, redis.ResponseError):
                self._down_until = time.monotonic() + _PAUSE_SECONDS
            raise StoreError(self._why) from None


def connect(settings: StoreSettings, timeout: float | None = None) -> redis.Redis:
    """Return a client of the Redis server that the settings name.

    Args:
        settings: The store's settings.
        timeout: Timeout of a call in seconds; that of the settings by default.

    Raises:
        ConfigurationError: If the address is none of Redis, or a file cannot be read. No message holds the password.
    """
    address, seconds = without_password(settings.url), timeout or settings.timeout_seconds
    options: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds, "retry": None}
    if username := settings.username or os.environ.get(USERNAME_VARIABLE):
        options["username"] = username
    if password := _password(settings):
        options["password"] = password
    if settings.authority:
        if not settings.url.startswith("rediss://"):
            raise ConfigurationError(f"serving.store.url == {address!r}, must begin with rediss:// to use 'authority'")
        options["ssl_ca_certs"] = settings.authority
    try:
        return redis.Redis.from_url(settings.url, **options)
    except ValueError:  # its message may hold the password
        raise ConfigurationError(
            f"serving.store.url == {address!r}, must be redis://HOST:PORT/0, or rediss://HOST:PORT/0 for TLS"
        ) from None


def _password(settings: StoreSettings) -> str | None:
    if settings.password_file is None:
        return os.environ.get(PASSWORD_VARIABLE)
    try:
        return Path(settings.password_file).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"serving.store.password_file == {settings.password_file!r}, must be a file that holds the password "
            f"({getattr(error, 'strerror', 'not UTF-8')})"
        ) from None


def without_password(url: str) -> str:
    """Return an address without its user name, password and options."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def why_failed(address: str, error: redis.RedisError) -> str:
    """Return why a call of Redis failed, and the next step."""
    if isinstance(error, redis.AuthenticationError):
        advice = f"set {PASSWORD_VARIABLE}, or 'serving.store.password_file' and 'username'"
        return f"{address} refuses the user or the password ({error}): {advice}"
    if isinstance(error, redis.ResponseError):  # a key has another type, the memory is full, the user lacks a right
        return f"{address} refuses a command ({error}): check its configuration"
    return f"{address} is out of reach ({error}): check that Redis runs"


def text_of(name: bytes) -> str:
    """Return a name in Redis as text; bytes that are no UTF-8 are written with backslashes."""
    return name.decode("utf-8", "backslashreplace")
