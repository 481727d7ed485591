from __future__ import annotations

import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kaimon.base.tls import ensure_development_tls


def test_certificates_are_made_once_and_kept(tmp_path: Path) -> None:
    first = ensure_development_tls(tmp_path)
    kept = first.certificate.read_bytes()
    assert ensure_development_tls(tmp_path) == first
    assert first.certificate.read_bytes() == kept


def test_the_key_is_pkcs8_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    made = ensure_development_tls(tmp_path)
    assert made.key.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert made.key.stat().st_mode & 0o777 == 0o600
    assert made.key.parent.stat().st_mode & 0o777 == 0o700


def test_the_authoritys_own_key_is_not_kept(tmp_path: Path) -> None:
    made = ensure_development_tls(tmp_path)
    authority = x509.load_pem_x509_certificate(made.ca.read_bytes())
    for path in made.key.parent.iterdir():
        if b"PRIVATE KEY" in path.read_bytes():
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
            assert key.public_key() != authority.public_key()


def test_certificates_that_are_about_to_end_are_made_anew(tmp_path: Path) -> None:
    old = ensure_development_tls(tmp_path).certificate.read_bytes()
    later = datetime.now(UTC) + timedelta(days=380)
    new = ensure_development_tls(tmp_path, later).certificate
    assert new.read_bytes() != old
    assert x509.load_pem_x509_certificate(new.read_bytes()).not_valid_after_utc > later + timedelta(days=300)


def test_a_key_that_does_not_belong_to_its_certificate_is_made_anew(tmp_path: Path) -> None:
    made = ensure_development_tls(tmp_path / "a")
    other = ensure_development_tls(tmp_path / "b")
    made.key.write_bytes(other.key.read_bytes())
    assert ensure_development_tls(tmp_path / "a") == made
    assert made.key.read_bytes() != other.key.read_bytes()
    # Raises where the two do not belong together.
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(made.certificate, made.key)


def test_many_at_once_end_with_files_that_belong_together(tmp_path: Path) -> None:
    threads = [threading.Thread(target=ensure_development_tls, args=(tmp_path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    made = ensure_development_tls(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()} == before
    # Both raise where files do not belong together.
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(made.certificate, made.key)
    x509.load_pem_x509_certificate(made.certificate.read_bytes()).verify_directly_issued_by(
        x509.load_pem_x509_certificate(made.ca.read_bytes())
    )
