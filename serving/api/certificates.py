"""Reads what the service's certificate says of itself, by the means of Python's own TLS."""

import ssl
from contextlib import suppress
from typing import Any, NamedTuple

from recsys.config.serving import TlsSettings
from recsys.errors import ConfigurationError
from recsys.instants import SECOND


class Certificate(NamedTuple):
    """What a certificate says."""

    expires_at: int
    """Microseconds since 1970 UTC."""
    names: tuple[str, ...]
    """The hosts that it is for."""


def read_certificate(tls: TlsSettings) -> Certificate:
    """Read a certificate by a handshake with itself, in memory: so its key is known to fit, and that it holds today.

    Raises:
        ConfigurationError: If a file cannot be read, the key is another's, or the certificate has expired.
    """
    try:
        told = _told(tls)
    except (ssl.SSLError, OSError) as error:
        why = getattr(error, "verify_message", None) or error.strerror or error
        raise ConfigurationError(
            f"serving.tls.certificate == {tls.certificate!r}, must hold today and have the key {tls.key!r}, but {why}: "
            "put a valid pair there, and start the service again"
        ) from None
    names = tuple(str(value) for kind, value in told.get("subjectAltName", ()) if kind in ("DNS", "IP Address"))
    return Certificate(ssl.cert_time_to_seconds(told["notAfter"]) * SECOND, names)


def _told(tls: TlsSettings) -> dict[str, Any]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tls.certificate, tls.key, password=lambda: "")  # without it, a locked key asks the terminal
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(tls.certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trusts the certificate itself, whoever signed it
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering, asking):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return dict(asking.getpeercert() or {})
