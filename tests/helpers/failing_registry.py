"""An MLflow server that fails."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from unittest.mock import patch


def impatient() -> AbstractContextManager[object]:
    """Let MLflow's client ask once only."""
    return patch.dict(os.environ, {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that answers every request with a status and a page of many lines; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>\n<h1>Internal Server Error</h1>\n" + b"<p>at module.function\n" * 100)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server, impatient():
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
