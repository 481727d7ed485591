"""A TLS server that takes batches as ingest does, cheaply, and tells its parent what came: `sink.py FOLDER`.

The first line that it prints is its port; then one JSON object a batch: `rows`, `events`, `first` (the earliest
event's time), `lost` (rows lost so far, by cause). It leaves its certificate in FOLDER/ca.pem.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import ipaddress
import json
import re
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import zstandard
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
COUNT, TIME = re.compile(rb'"count":(\d+)'), re.compile(rb'"time":(\d+)')


def token(kind: str) -> str:
    """Return a well-formed token that opens nothing."""
    body = f"kmn_{kind}_" + "a" * 32
    number, check = binascii.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        check = DIGITS[digit] + check
    return body + check


def certify(folder: Path) -> ssl.SSLContext:
    """Make a certificate for 127.0.0.1 and return a context that serves it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


class Handler(BaseHTTPRequestHandler):
    """Enrolls anybody and accepts everything."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing: standard error is the parent's."""

    def do_POST(self) -> None:
        """Answer as ingest would, after telling the parent."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/enroll":
            said = {"agent_id": "agt_0123456789abcdef", "credential": token("hst"), "tenant": "bench"}
            self.answer(201, said)
            return
        want = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
        if self.headers["Content-Digest"] != want:
            self.answer(400, {"code": "digest_mismatch"})
            return
        text = zstandard.ZstdDecompressor().decompress(body, max_output_size=64 << 20, allow_extra_data=False)
        head, _, rest = text.partition(b"\n")
        causes = [cpu["lost_rows"] for cpu in json.loads(head)["cpus"]]
        told = {
            "rows": rest.count(b"\n"),
            "events": sum(map(int, COUNT.findall(rest))),
            "first": min(map(int, TIME.findall(rest)), default=None),
            "lost": {cause: sum(lost[cause] for lost in causes) for cause in causes[0]} if causes else {},
            "final": json.loads(head)["final"],
        }
        print(json.dumps(told), flush=True)
        self.answer(200, {"accepted": told["rows"], "rejected": 0, "duplicate": False, "errors": []})

    def answer(self, status: int, body: dict[str, object]) -> None:
        """Send one JSON answer."""
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def main() -> None:
    """Serve until killed."""
    context = certify(Path(sys.argv[1]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
