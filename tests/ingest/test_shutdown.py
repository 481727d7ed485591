"""A server that is stopped under load drains: what it answered is staged and in the log, and nothing twice."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

from lake.access_reads import read_access
from lake.settings import LakeSettings
from lake.stores import open_store
from tenancy.database import open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

SENDERS = 6


def test_a_server_that_is_stopped_under_load_loses_and_doubles_nothing(tmp_path: Path, wire: ModuleType) -> None:
    home = tmp_path / "home"
    home.mkdir()
    server = wire.Server(home, tmp_path / "log", workers=2, access_flush_s=3600)
    told: list[tuple[str, int, tuple[str, str, int]]] = []
    lock = threading.Lock()

    def send(number: int, host: Any) -> None:
        """Send until the connection is refused; what broke off without an answer may be staged or not."""
        while True:
            body = host.batch(5)
            name = f"sender-{number}-{host.batch_seq}"
            try:
                answer = server.send(host, body, **{"X-Request-Id": name})
            except httpx.TransportError:
                return
            with lock:
                told.append((name, answer.status_code, (host.agent_id, host.load_id, host.batch_seq)))
            if answer.status_code != 200:
                assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
                assert answer.headers["retry-after"]
                return

    try:
        database = open_database(TenancySettings(home=home))
        create_tenant(database, "acme", subscription="active")
        hosts = [server.enroll(database, "acme") for _ in range(SENDERS)]
        database.close()
        # It answers as soon as one of them does; the other is to have what it must drain too.
        wire.wait_until(lambda: server.log.read_text().count('"ingest_started"') == 2, "both workers to start", 150)
        threads = [threading.Thread(target=send, args=pair) for pair in enumerate(hosts)]
        for thread in threads:
            thread.start()
        wire.wait_until(lambda: len(told) >= 5 * SENDERS, "batches to be answered", 60)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert server.process.wait(timeout=90) == 0
    finally:
        server.kill()
    staged = Counter(wire.staged_batches(home, "acme"))
    answered = [identity for _, status, identity in told if status == 200]
    assert len(answered) >= 5 * SENDERS
    assert all(staged[identity] == 1 for identity in answered)
    # Each sender has at most one more in flight when its connection ends.
    assert sum(staged.values()) <= len(answered) + SENDERS
    assert [line["event"] for line in server.log_lines()].count("ingest_stopped") == 2
    now = datetime.now(UTC)
    log = read_access(open_store("audit", LakeSettings(home=home)), now - timedelta(days=1), now + timedelta(days=1))
    calls = {record.request_id: record.status for record in log if record.what == "POST /v1/batches"}
    assert {name: status for name, status, _ in told}.items() <= calls.items()
