"""A host as tests play it: it enrolls, makes batches and sends them to a real server over TLS."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import zstandard

from kaimon.base.tls import ensure_development_tls
from lake.segments import Segment, read_segment
from lake.settings import LakeSettings
from lake.stores import open_store
from tenancy.database import Database
from tenancy.enrollment import create_token

KAIMON = Path(sys.executable).parent / "kaimon"
CAUSES = ("ring", "scratch", "shed", "refused", "evicted")


def event(seq: int = 0, /, **changes: Any) -> dict[str, Any]:
    """Return an event's line as an object; a change to `...` leaves the key out."""
    made = {
        "time": 1_700_000_000_000_000 + seq,
        "monotonic_ns": 1_000 + seq,
        "operation": "write",
        "path": f"/srv/data/{seq}",
        "path_status": "resolved",
        "file_type": "regular",
        "mode": 0o100644,
        "result": 0,
        "count": 1,
        "uid": 1000,
        "euid": 1000,
        "gid": 1000,
        "user": "ada",
        "pid": 4242,
        "ppid": 1,
        "process": "python3",
        "exe": "/usr/bin/python3",
        "process_start": 1_699_999_999_000_000,
        "cpu": 0,
        "seq": seq,
    } | changes
    return {key: value for key, value in made.items() if value is not ...}


def lines(*objects: dict[str, Any] | bytes) -> bytes:
    """Return one line an object; bytes are taken as they are, without their newline."""
    return b"".join(
        (item if isinstance(item, bytes) else json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode())
        + b"\n"
        for item in objects
    )


def request_headers(credential: str, body: bytes) -> dict[str, str]:
    """Return the headers of a batch."""
    return {
        "Authorization": f"Bearer {credential}",
        "Content-Type": "application/x-ndjson",
        "Content-Encoding": "zstd",
        "Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:",
    }


class Host:
    """One enrolled host and one load of its programs."""

    def __init__(self, tenant: str, agent_id: str, credential: str) -> None:
        self.tenant = tenant
        self.agent_id = agent_id
        self.credential = credential
        self.boot_id, self.load_id = str(uuid.uuid4()), str(uuid.uuid4())
        self.batch_seq = 0
        self.next_seq = 0

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return the next batch's header."""
        self.batch_seq += 1
        none_lost = dict.fromkeys(CAUSES, 0)
        counters = {
            "cpu": 0,
            "seen": self.next_seq,
            "filtered": 0,
            "next_seq": self.next_seq,
            "pending": 0,
            "lost_rows": none_lost,
            "lost_events": none_lost,
        }
        return {
            "kind": "batch",
            "agent_id": self.agent_id,
            "hostname": "host-1",
            "boot_id": self.boot_id,
            "load_id": self.load_id,
            "batch_seq": self.batch_seq,
            "previous_digest": None,
            "agent_version": "0.1.0",
            "capture_mode": "sys_exit",
            "blind_spots": ["io_uring"],
            "host": {"os": "Debian GNU/Linux 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None},
            "cpus": [counters],
            "sent_at": time.time_ns() // 1000,
            "final": False,
        } | changes

    def events(self, count: int, **changes: Any) -> list[dict[str, Any]]:
        """Return the next rows of CPU 0, seen just now."""
        first, self.next_seq = self.next_seq, self.next_seq + count
        now = time.time_ns() // 1000
        return [event(seq, **({"time": now + seq} | changes)) for seq in range(first, first + count)]

    def batch(self, count: int = 3) -> bytes:
        """Return the next batch's body with so many good events."""
        events = self.events(count)
        return zstandard.compress(lines(self.header(), *events))

    def headers(self, body: bytes) -> dict[str, str]:
        return request_headers(self.credential, body)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A real `kaimon ingest serve` (or `command`) and a client that trusts it."""

    def __init__(self, home: Path, log: Path, command: list[str] | None = None, **settings: Any) -> None:
        self.home = home
        self.port = free_port()
        self.log = log
        self.url = f"https://127.0.0.1:{self.port}"
        self.trust = ssl.create_default_context(cafile=str(ensure_development_tls(home).ca))
        # As many may stay as may be: a pool that closes its surplus at times closes one just given to another thread.
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        self.client = httpx.Client(base_url=self.url, verify=self.trust, timeout=60, trust_env=False, limits=limits)
        environment = {f"KAIMON_{name.upper()}": str(value) for name, value in settings.items()}
        environment |= {"KAIMON_HOME": str(home), "KAIMON_PORT": str(self.port)}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command or [str(KAIMON), "ingest", "serve"],
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_until(self._ready, "ingest to be ready", 150)
        except BaseException:
            self.kill()
            raise

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def send(self, host: Host, body: bytes, **headers: str) -> httpx.Response:
        return self.client.post("/v1/batches", content=body, headers=host.headers(body) | headers)

    def enroll(self, db: Database, tenant: str, **limits: Any) -> Host:
        """Enroll a new host of `tenant` with a new token."""
        _, token = create_token(db, tenant, **limits)
        return self.enroll_with(token)

    def enroll_with(self, token: str) -> Host:
        wish = {
            "hostname": "host-1",
            "boot_id": str(uuid.uuid4()),
            "agent_version": "0.1.0",
            "host": {"os": "Debian", "kernel": "6.1.0", "arch": "x86_64", "cloud": None},
        }
        answer = self.client.post("/v1/enroll", json=wish, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 201, answer.text
        told = answer.json()
        return Host(told["tenant"], told["agent_id"], told["credential"])

    def stop(self) -> int:
        """Ask it to stop; return its exit status."""
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """End it and its worker without a word."""
        self.client.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log's lines, each of which must be one JSON object."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def wait_until(ask: Callable[[], bool], what: str, within_s: float = 20) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + within_s
    while not ask():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def segments(home: Path, tenant: str) -> list[Segment]:
    """Return all that is staged for a tenant."""
    store = open_store("staging", LakeSettings(home=home))
    return [read_segment(store.get(item.key)) for item in store.list(tenant)]


def staged_batches(home: Path, tenant: str) -> list[tuple[str, str, int]]:
    """Return the identity of every batch in every segment of a tenant."""
    return [record.identity for segment in segments(home, tenant) for record in segment.batches]
