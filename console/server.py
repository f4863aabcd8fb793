"""Listens at an address, and runs an application until it is stopped."""

import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import uvicorn
from fastapi import FastAPI

from console.pages.review import review_app
from console.shop_console import console_app
from recsys.config.console import ConsoleTls
from recsys.config.serving import host_and_port
from recsys.config.settings import Settings
from recsys.errors import ConfigurationError
from recsys.images.lab.review import Review
from recsys.images.tagging.files import PhotoFiles

_ALL_ADDRESSES = ("0.0.0.0", "::", "")


def listen(host: str, port: int, scheme: str = "http") -> tuple[socket.socket, str]:
    """Return a socket that listens, so that a browser that opens its address at once waits, and its URL.

    Args:
        host: The address to listen on.
        port: The port; 0 for any free one.
        scheme: Of the URL.

    Raises:
        ConfigurationError: If the host is all addresses, or cannot be listened on.
    """
    if host in _ALL_ADDRESSES:
        raise ConfigurationError(f"host == {host!r}, must be one address or name of this machine, such as 127.0.0.1")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"{host_and_port(host, port)} cannot be listened on ({error.strerror}): give another host or port"
        ) from error
    return listening, f"{scheme}://{host_and_port(host, listening.getsockname()[1])}"


def names_of_this_host(host: str) -> list[str]:
    """Return the names by which browsers of this machine reach an address of it."""
    return sorted({host, "127.0.0.1", "localhost"})


def server_of(app: FastAPI, tls: ConsoleTls | None = None) -> uvicorn.Server:
    """Return what answers requests by an application.

    Raises:
        ConfigurationError: If the certificate or its key cannot be used.
    """
    options: dict[str, Any] = {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key} if tls else {}
    config = uvicorn.Config(
        app, ws="none", log_level="warning", access_log=False, server_header=False, proxy_headers=False, **options
    )
    try:
        config.load()
    except OSError as error:  # of ssl too
        raise ConfigurationError(
            f"console.tls cannot be used ({error}): check both files, and that they match"
        ) from None
    return uvicorn.Server(config)


def run(server: uvicorn.Server, listening: socket.socket) -> None:
    """Answer requests until the process is interrupted."""
    with suppress(KeyboardInterrupt):
        server.run([listening])


def serve_review(
    review: Review,
    files: PhotoFiles,
    reviewers: Sequence[str],
    host: str,
    port: int,
    announce: Callable[[dict[str, str]], None],
) -> None:
    """Serve the page of a review until the process is interrupted.

    Args:
        review: The review.
        files: Where the photos are.
        reviewers: Who reviews; each has an address with a token of their own.
        host: The address to listen on.
        port: The port; 0 for any free one.
        announce: Is called with the addresses to open, by reviewer, once the page can be opened.

    Raises:
        ConfigurationError: If the host is all addresses, or cannot be listened on.
    """
    tokens = {secrets.token_urlsafe(24): name for name in reviewers}
    listening, url = listen(host, port)
    with listening:
        server = server_of(review_app(review, files, tokens, names_of_this_host(host)))
        announce({name: f"{url}/?token={token}" for token, name in tokens.items()})
        run(server, listening)


def serve_console(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve the console of a shop until the process is interrupted.

    Args:
        settings: The shop's settings; those of `console` say where and for whom.
        announce: Is called with the address to open, once it can be opened.

    Raises:
        ConfigurationError: If the host is all addresses, or cannot be listened on.
    """
    host = settings.console.host
    listening, url = listen(host, settings.console.port, "https" if settings.console.tls else "http")
    hosts = [*names_of_this_host(host), *settings.console.hosts]
    with listening:
        app = console_app(settings, hosts, f"recsys_console_{listening.getsockname()[1]}")
        server = server_of(app, settings.console.tls)
        announce(url)
        run(server, listening)
