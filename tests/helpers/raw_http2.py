"""Incomplete HTTP/2 requests, of clients that stop sending or reading."""

import socket
import ssl
import struct
from contextlib import suppress

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_INITIAL_WINDOW = 4


def opened(target: str) -> socket.socket:
    """Connect, and send nothing."""
    host, _, port = target.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def open_streams(
    target: str, method: str, count: int, message: bytes | None = None, is_tls: bool = False
) -> socket.socket:
    """Send the headers of requests over one connection, and perhaps a message, but not the end of any."""
    connection = opened(target)
    if is_tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        connection = context.wrap_socket(connection)
    connection.sendall(PREFACE + _frame(_SETTINGS, 0, 0, b""))
    data = b"" if message is None else struct.pack(">BI", 0, len(message)) + message
    for number in range(count):
        stream = 2 * number + 1
        begun = _headers(target, method, stream)
        connection.sendall(begun if message is None else begun + _frame(_DATA, 0, stream, data))
    return connection


def half_request(target: str, method: str) -> socket.socket:
    """Send the headers of a request and the beginning of its message."""
    connection = opened(target)
    message = struct.pack(">BI", 0, 1000) + b"x" * 10
    connection.sendall(PREFACE + _frame(_SETTINGS, 0, 0, b"") + _headers(target, method) + _frame(_DATA, 0, 1, message))
    return connection


def unread_request(target: str, method: str, message: bytes) -> socket.socket:
    """Send a whole request with a flow-control window of 0, so that the server cannot send its answer."""
    connection = opened(target)
    no_window = _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW, 0))
    data = _frame(_DATA, _END_STREAM, 1, struct.pack(">BI", 0, len(message)) + message)
    connection.sendall(PREFACE + no_window + _headers(target, method) + data)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server has closed the connection; received data is discarded."""
    connection.settimeout(0.01)
    with suppress(TimeoutError):
        while connection.recv(1 << 16):
            pass
        return True
    return False


def _headers(target: str, method: str, stream: int = 1) -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": target,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return _frame(_HEADERS, _END_HEADERS, stream, b"".join(_field(name, value) for name, value in fields.items()))


def _field(name: str, value: str) -> bytes:
    """Return a literal header field without indexing, RFC 7541, section 6.2.2; name and value up to 126 bytes each."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
