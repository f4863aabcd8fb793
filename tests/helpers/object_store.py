"""An S3 server on loopback, in this process, with faults that a test puts between it and its clients."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

from recsys.storage.places import Place, place

BUCKET = "shop"
ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
SLOW, REFUSED, CUT, LOST = "slow", "503", "cut", "done, but its answer is lost"

Fault = Callable[[str, str], str | None]
"""From the method and the path of a request to one of the faults above; None for none."""


class ObjectStore:
    """The server, and the fault in force."""

    def __init__(self) -> None:
        self.fault: Fault = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", int(ENDPOINT.rpartition(":")[2]), self._answer, threaded=True)

    def __call__(self, name: str = "") -> Place:
        """Return the place of a folder in the bucket."""
        return place(f"s3://{BUCKET}/{name}".rstrip("/"))

    def serve(self) -> None:
        """Answer until `stop`."""
        self._server.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()

    def fail_once(self, kind: str, method: str, ending: str) -> None:
        """Put a fault on the next request of a method whose path ends so."""
        left = [kind]

        def fault(asked: str, path: str) -> str | None:
            return left.pop() if left and asked == method and path.endswith(ending) else None

        self.fault = fault

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        fault = self.fault(method, path)
        if fault == SLOW:
            time.sleep(0.3)
        if fault == CUT:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        if fault == REFUSED:
            start("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        if fault == LOST:
            b"".join(self._app(environ, lambda *_: lambda _: None))
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        return self._app(environ, start)


@contextmanager
def running_object_store() -> Iterator[ObjectStore]:
    """Run an empty store with a bucket; environment variables of `tests/conftest.py` lead all processes there."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()
    store = ObjectStore()
    thread = threading.Thread(target=store.serve, daemon=True)
    thread.start()
    store().fs.mkdir(BUCKET)
    store.requests.clear()
    try:
        yield store
    finally:
        store.stop()
        thread.join()
