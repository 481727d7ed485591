"""A certificate authority and a server certificate for development, made once under the home."""

from __future__ import annotations

import fcntl
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE: Final = timedelta(days=397)
_RENEW_BEFORE: Final = timedelta(days=30)


@dataclass(frozen=True)
class ServerTls:
    """What the server shows (PEM; the key as PKCS#8) and, in `ca`, what its clients trust."""

    certificate: Path
    key: Path
    ca: Path


def ensure_development_tls(home: Path, now: datetime | None = None) -> ServerTls:
    """Return the development certificate for localhost, 127.0.0.1 and ::1; make it if there is none that lasts.

    The authority's own key is thrown away: whoever trusts `ca.pem` trusts this one server and nobody else for ever.
    Several processes may call this at once.
    """
    now = now or datetime.now(UTC)
    folder = home / "tls"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = ServerTls(folder / "server.pem", folder / "server.key", folder / "ca.pem")
    with _locked(folder / ".lock"):
        if not _lasts(made, now):
            _make(made, now)
    return made


def _lasts(made: ServerTls, now: datetime) -> bool:
    """Say whether all files are there, belong together and stay valid for a while."""
    if not all(path.exists() for path in (made.certificate, made.key, made.ca)):
        return False
    try:
        certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes())
        authority = x509.load_pem_x509_certificate(made.ca.read_bytes())
        key = serialization.load_pem_private_key(made.key.read_bytes(), password=None)
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - whatever is wrong with them, the answer is to make them anew
        return False
    ours = certificate.public_key() == key.public_key()
    return ours and min(certificate.not_valid_after_utc, authority.not_valid_after_utc) > now + _RENEW_BEFORE


def _make(made: ServerTls, now: datetime) -> None:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kaimon development CA")])
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key(), authority_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    addresses = [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    certificate = (
        _builder(name, authority_name, key.public_key(), authority_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _replace(made.key, secret, 0o600)
    _replace(made.certificate, certificate.public_bytes(pem), 0o644)
    _replace(made.ca, authority.public_bytes(pem), 0o644)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    now: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # An hour back: clocks differ.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all, never readable to others for a moment."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
