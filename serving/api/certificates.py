"""Reads and checks the service's certificate, with Python's own TLS."""

import ssl
from contextlib import suppress
from typing import Any, NamedTuple

from recsys.config.serving import TlsSettings
from recsys.errors import ConfigurationError
from recsys.instants import SECOND


class Certificate(NamedTuple):
    """The expiry and the host names of a certificate."""

    expires_at: int
    """Microseconds since 1970 UTC."""
    names: tuple[str, ...]
    """The host names and IP addresses that it is valid for."""


def read_certificate(tls: TlsSettings) -> Certificate:
    """Read a certificate by a TLS handshake in memory, which checks that it is valid now and matches its key.

    Raises:
        ConfigurationError: If a file cannot be read, the key does not match, or the certificate is not valid now.
    """
    try:
        certificate = _certificate_of_handshake(tls)
    except (ssl.SSLError, OSError) as error:
        why = getattr(error, "verify_message", None) or error.strerror or error
        raise ConfigurationError(
            f"serving.tls.certificate == {tls.certificate!r}, must be valid today and match the key {tls.key!r}, "
            f"but {why}: install a valid pair, and restart the service"
        ) from None
    names = tuple(str(value) for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address"))
    return Certificate(ssl.cert_time_to_seconds(certificate["notAfter"]) * SECOND, names)


def _certificate_of_handshake(tls: TlsSettings) -> dict[str, Any]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tls.certificate, tls.key, password=lambda: "")  # or an encrypted key would prompt
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
