"""A certificate authority for tests, which signs certificates of servers and callers."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files in PEM format."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority; `file` is its certificate, which verifies its signatures."""

    def __init__(self, folder: Path, name: str = "authority"):
        self._folder, self._name = folder, _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))
        self.file = folder / f"{name}.crt"
        self.file.write_bytes(certificate)

    def pair(self, common_name: str) -> Pair:
        """Create a certificate for 127.0.0.1 and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        host = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        pair = Pair(self._folder / f"{common_name}.crt", self._folder / f"{common_name}.key")
        pair.certificate.write_bytes(self._signed(_name(common_name), key, host))
        pair.key.write_bytes(_pem(key))
        return pair

    def channel_credentials(self, caller: Pair | None = None) -> grpc.ChannelCredentials:
        """Return credentials that trust only this authority, with the certificate of a caller if given."""
        own = (caller.key.read_bytes(), caller.certificate.read_bytes()) if caller else (None, None)
        return grpc.ssl_channel_credentials(self.file.read_bytes(), *own)

    def _signed(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
        today = datetime.now(UTC)
        window = (today - timedelta(days=1), today + timedelta(days=1))
        builder = x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number(), *window)
        certificate = builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.OID_COMMON_NAME, common_name)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form)
