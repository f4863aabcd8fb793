"""A certificate and its key, as files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from recsys.config.serving import TlsSettings


def tls_pair(
    folder: Path, days: float, signed_by: str = "recsys.test", use: x509.ObjectIdentifier | None = None
) -> TlsSettings:
    """Write a certificate of recsys.test that is valid from 90 days ago until `days` days from now, and its key.

    Args:
        folder: Folder to create.
        days: Days until it expires.
        signed_by: Name of the authority; by default the certificate signs itself.
        use: The only extended use that it is allowed for; any by default.
    """
    key, authority = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, subject = (
        x509.Name([x509.NameAttribute(x509.OID_COMMON_NAME, name)]) for name in (signed_by, "recsys.test")
    )
    today = datetime.now(UTC)
    window = (today - timedelta(days=90), today + timedelta(days=days))
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), 7, *window)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("recsys.test")]), critical=False)
    if use:
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    certificate = builder.sign(key if issuer == subject else authority, hashes.SHA256())
    folder.mkdir()
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(key.private_bytes(*form))
    return TlsSettings(certificate=str(folder / "tls.crt"), key=str(folder / "tls.key"))
