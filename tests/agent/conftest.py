"""A TLS server that behaves as ingest should, or as badly as a test asks; and the real agent run against it."""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime as dt
import hashlib
import ipaddress
import itertools
import json
import os
import signal
import ssl
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import zstandard
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parents[2]
AGENT = ROOT / "build" / "kaimon-agent"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CAUSES = ("ring", "scratch", "shed", "refused", "evicted")


def token(kind: str, letter: str = "a") -> str:
    body = f"kmn_{kind}_" + letter * 32
    number, check = binascii.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        check = ALPHABET[digit] + check
    return body + check


@dataclass
class Batch:
    header: dict[str, Any]
    rows: list[dict[str, Any]]
    digest: str
    compressed: int
    body: bytes = field(repr=False)


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    store: bool = True  # a batch that is answered with anything but 200 may have been stored all the same
    hang_up: bool = False  # break the connection instead of answering


class Sink:
    """What arrived, in order; `script` decides on each request and gets the parsed batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.batches: list[Batch] = []
        self.attempts: list[tuple[str, int]] = []
        self.enrolled: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.script: Callable[[Batch], Answer] = lambda _: Answer()
        self.lock = threading.Condition()
        self.server: ThreadingHTTPServer | None = None
        self.port = 0
        self.ca = folder / "ca.pem"
        self._certify()
        self.start()

    def _certify(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sink")])
        now = dt.datetime.now(dt.UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (self.folder / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                # Connections outlive their server; a client that was killed sends half a body.
                away = sink.server is None or len(body) < int(self.headers["Content-Length"])
                answer = Answer(hang_up=True) if away else sink.receive(self.path, self.headers, body)
                if answer.hang_up:
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        self.connection.shutdown(2)
                    return
                raw = json.dumps(answer.body or {}).encode()
                self.send_response(answer.status)
                for key, value in answer.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None:
                pass

        server = Server(("127.0.0.1", self.port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.ca, self.folder / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.server, self.port = server, server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def receive(self, path: str, headers: Any, body: bytes) -> Answer:
        with self.lock:
            self.lock.notify_all()
            if path == "/v1/enroll":
                if headers["Authorization"] != f"Bearer {token('enr')}":
                    return Answer(401, body={"code": "unauthorized"})
                self.enrolled.append(json.loads(body))
                return Answer(
                    201,
                    body={"agent_id": "agt_0123456789abcdef", "credential": token("hst"), "tenant": "acme"},
                )
            batch = self._parse(headers, body)
            answer = self.script(batch)
            self.attempts.append((batch.digest, answer.status if not answer.hang_up else 0))
            keep = answer.status == 200 or answer.hang_up
            duplicate = any(known.digest == batch.digest for known in self.batches)
            if keep and answer.store and not duplicate:
                self.batches.append(batch)
            if answer.status == 200 and answer.body is None:
                answer.body = {"accepted": len(batch.rows), "rejected": 0, "duplicate": duplicate, "errors": []}
            return answer

    def _parse(self, headers: Any, body: bytes) -> Batch:
        raw = hashlib.sha256(body).digest()
        want = {
            "Authorization": f"Bearer {token('hst')}",
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "zstd",
            "Content-Digest": f"sha-256=:{base64.b64encode(raw).decode()}:",
        }
        self.problems += [f"{key}: {headers[key]}" for key, value in want.items() if headers[key] != value]
        text = zstandard.ZstdDecompressor().decompress(body, max_output_size=64 << 20, allow_extra_data=False)
        if not text.endswith(b"\n"):
            self.problems.append("the body does not end in a newline")
        lines = text[:-1].split(b"\n")
        if max(map(len, lines)) > 64 << 10:
            self.problems.append("a line is longer than 64 KiB")
        return Batch(json.loads(lines[0]), [json.loads(line) for line in lines[1:]], raw.hex(), len(body), body)

    def wait(self, done: Callable[[Sink], bool], seconds: float = 30) -> None:
        with self.lock:
            assert self.lock.wait_for(lambda: done(self), seconds), f"nothing of the sort in {seconds} s"

    def rows(self) -> list[dict[str, Any]]:
        with self.lock:
            return [row for batch in self.batches for row in batch.rows]

    def check(self) -> None:
        """Both equations, for every batch and CPU; numbers distinct and below next_seq; the chain unbroken."""
        assert self.problems == []
        delivered: dict[int, set[int]] = defaultdict(set)
        events: dict[int, int] = defaultdict(int)
        digests: dict[int, str] = {}
        with self.lock:
            batches = list(self.batches)
        for batch in batches:
            header = batch.header
            assert header["batch_seq"] not in digests
            digests[header["batch_seq"]] = batch.digest
            if header["batch_seq"] - 1 in digests:
                assert header["previous_digest"] == digests[header["batch_seq"] - 1]
            for row in batch.rows:
                assert row["seq"] not in delivered[row["cpu"]]
                delivered[row["cpu"]].add(row["seq"])
                events[row["cpu"]] += row["count"]
            counters = {c["cpu"]: c for c in header["cpus"]}
            assert set(delivered) <= set(counters)
            for cpu, c in counters.items():
                assert set(c["lost_rows"]) == set(c["lost_events"]) == set(CAUSES)
                assert len(delivered[cpu]) + sum(c["lost_rows"].values()) == c["next_seq"], (header["batch_seq"], c)
                assert events[cpu] + sum(c["lost_events"].values()) + c["filtered"] + c["pending"] == c["seen"]
                assert not delivered[cpu] or max(delivered[cpu]) < c["next_seq"]
        for earlier, later in itertools.pairwise(batches):
            for c in earlier.header["cpus"]:
                now = next(d for d in later.header["cpus"] if d["cpu"] == c["cpu"])
                assert all(now[key] >= c[key] for key in ("seen", "filtered", "next_seq"))
                for kind in ("lost_rows", "lost_events"):
                    assert all(now[kind][cause] >= c[kind][cause] for cause in CAUSES)

    def lost(self, kind: str = "lost_rows") -> dict[str, int]:
        with self.lock:
            newest = self.batches[-1].header["cpus"]
        return {cause: sum(c[kind][cause] for c in newest) for cause in CAUSES}


class Agent:
    """The real agent, as a process."""

    def __init__(
        self, sink: Sink, folder: Path, *arguments: str, enroll: bool = True, under: Sequence[str] = ()
    ) -> None:
        self.sink, self.folder, self.state = sink, folder, folder / "state"
        self.log = (folder / f"agent-{time.monotonic_ns()}.log").open("ab")
        command = [*under, AGENT, "run", "--server", sink.url, "--ca", sink.ca, "--state-dir", self.state]
        command += ["--cut-interval", "100ms", "--heartbeat", "1s", "--auth-retry", "200ms"]
        # This server is slow, and the machine may be busy.
        command += ["--stop-timeout", "60s", "--send-timeout", "60s", *arguments]
        if enroll:
            command += ["--token-file", "-"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self.log)
        assert self.process.stdin is not None
        self.process.stdin.write(token("enr").encode() + b"\n" if enroll else b"")
        self.process.stdin.close()

    def wait_ready(self) -> None:
        self.wait_said("capturing")

    def wait_said(self, message: str) -> None:
        deadline = time.monotonic() + 30
        while not any(line["msg"] == message for line in self.said()):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in Path(self.log.name).read_bytes().splitlines() if line]

    def stop(self, code: int = 0) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(90) == code, self.said()[-5:]

    def memory(self, what: str = "VmRSS") -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(what + ":"):
                return int(line.split()[1]) << 10
        raise AssertionError(what)

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
                self.process.kill()
            self.process.wait(10)
        self.log.close()


def why_not() -> str:
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "needs a kernel with BTF"
    if not AGENT.exists():
        return "needs build/kaimon-agent (script/build-agent)"
    return ""


@pytest.fixture(autouse=True)
def _skip_where_the_agent_cannot_run(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root") and why_not():
        pytest.skip(why_not())


@pytest.fixture
def tokens() -> dict[str, str]:
    return {kind: token(kind) for kind in ("enr", "hst")}


@pytest.fixture
def make_token() -> Callable[[str, str], str]:
    return token


@pytest.fixture
def answer() -> type[Answer]:
    return Answer


@pytest.fixture
def anyones() -> Iterator[Path]:
    """A folder that every user can get to, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="kaimon-test-") as made:
        folder = Path(made).resolve()
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    folder = tmp_path / "sink"
    folder.mkdir()
    made = Sink(folder)
    yield made
    made.stop()


@pytest.fixture
def other_sink(tmp_path: Path) -> Iterator[Sink]:
    folder = tmp_path / "other sink"
    folder.mkdir()
    made = Sink(folder)
    yield made
    made.stop()


@pytest.fixture
def start(sink: Sink, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Start the agent with further arguments; it is ended with the test. It tells each occurrence unless it is asked to
    collapse."""
    running: list[Agent] = []

    def run(
        *arguments: str, enroll: bool = True, ready: bool = True, at: Sink = sink, under: Sequence[str] = ()
    ) -> Agent:
        window = () if "--collapse-window" in arguments else ("--collapse-window", "0")
        agent = Agent(at, tmp_path if at is sink else at.folder, *window, *arguments, enroll=enroll, under=under)
        running.append(agent)
        if ready:
            agent.wait_ready()
        return agent

    yield run
    for agent in running:
        agent.close()
