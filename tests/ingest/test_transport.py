"""What a stranger finds who tries every way of speaking to the port: TLS 1.2 and 1.3 with sound ciphers, no more."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import warnings
from typing import Any

import httpx
import pytest

FORWARD_SECRET = ("ECDHE-ECDSA-", "ECDHE-RSA-", "TLS_")
AUTHENTICATED = ("GCM", "CHACHA20")


def agreed(server: Any, version: ssl.TLSVersion, ciphers: str = "ALL:@SECLEVEL=0") -> ssl.SSLSocket | None:
    """Speak only this version and, below 1.3, only these ciphers; return the connection, or None if it is refused."""
    context = ssl.create_default_context(cafile=str(server.home / "tls" / "ca.pem"))
    # The local library itself would refuse to speak the old versions.
    context.set_ciphers(ciphers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    try:
        return context.wrap_socket(plain, server_hostname="localhost")
    except ssl.SSLError as error:
        plain.close()
        if "ALERT" not in str(error).upper():
            # It must be the server that says no.
            raise
        return None


def can_offer() -> list[str]:
    """Return every cipher of TLS 1.2 and older that this machine can offer without a secret, the unsound ones too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    names = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    return [name for name in names if "PSK" not in name and "SRP" not in name]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(server: Any, version: ssl.TLSVersion) -> None:
    connection = agreed(server, version)
    assert connection is not None
    with connection:
        assert connection.version() == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
        assert connection.compression() is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_tls_is_refused_by_the_server(server: Any, version: ssl.TLSVersion) -> None:
    assert agreed(server, version) is None


def test_of_every_cipher_that_can_be_offered_only_sound_ones_are_taken(server: Any) -> None:
    offered = can_offer()
    # What makes the test worth its name: unsound ones were among them.
    assert any("CBC" in name or name.endswith("-SHA") for name in offered)
    assert any("NULL" in name for name in offered)
    assert any(name.startswith("AES") for name in offered)
    taken = []
    for name in offered:
        connection = agreed(server, ssl.TLSVersion.TLSv1_2, f"{name}:@SECLEVEL=0")
        if connection is not None:
            with connection:
                assert connection.cipher() is not None
                taken.append(name)
    assert taken
    for name in taken:
        assert name.startswith(FORWARD_SECRET), name
        assert any(kind in name for kind in AUTHENTICATED), name


def test_tls_1_3_has_its_own_sound_ciphers(server: Any) -> None:
    taken = []
    for name in (
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_CCM_8_SHA256",
    ):
        said = s_client(server, "-tls1_3", "-ciphersuites", name)
        if f"Cipher is {name}" in said:
            taken.append(name)
    assert taken == ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"]


def s_client(server: Any, *options: str, say: bytes = b"") -> str:
    """Return what openssl's own client found out."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed (script/bootstrap test)")
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-servername", "localhost", *options]
    done = subprocess.run(command, input=say, capture_output=True, timeout=30)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def test_nothing_is_compressed_and_nothing_renegotiated(server: Any) -> None:
    said = s_client(server, "-tls1_2", "-comp")
    assert "Cipher is ECDHE" in said
    assert "Compression: NONE" in said
    # RFC 5746: a renegotiation, if there were one, could not be spliced; and a client that asks for one gets none.
    assert "Secure Renegotiation IS supported" in said
    asked = s_client(server, "-tls1_2", say=b"R\n")
    assert "RENEGOTIATING" in asked
    assert "alert no renegotiation" in asked or "no renegotiation" in asked or "wrong version" in asked


def test_plain_http_is_not_served(server: Any) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{server.port}/healthz", timeout=10, trust_env=False)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in plain.recv(4096)


def test_a_client_that_does_not_know_our_authority_refuses_us(server: Any) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{server.url}/healthz", trust_env=False)
