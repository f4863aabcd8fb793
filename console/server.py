"""Runs the pages until they are stopped."""

import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

import uvicorn

from console.app import console_app
from recsys.config.serving import host_and_port
from recsys.errors import ConfigurationError
from recsys.images.lab.review import Review
from recsys.images.tagging.files import PhotoFiles

_ALL_ADDRESSES = ("0.0.0.0", "::", "")


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
    if host in _ALL_ADDRESSES:
        raise ConfigurationError(f"--host == {host!r}, must be one address or name of this machine, such as 127.0.0.1")
    tokens = {secrets.token_urlsafe(24): name for name in reviewers}
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"{host_and_port(host, port)} cannot be listened on ({error.strerror}): give another --host or --port"
        ) from error
    base = f"http://{host_and_port(host, listening.getsockname()[1])}"
    announce({name: f"{base}/?token={token}" for token, name in tokens.items()})
    app = console_app(review, files, tokens, sorted({host, "127.0.0.1", "localhost"}))
    with suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)).run([listening])
