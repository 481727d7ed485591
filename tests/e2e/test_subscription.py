"""A subscription that ends under a running agent, with the real agent, the real server and no test double between."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import secrets
import signal
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tenancy.database import Database, open_database
from tenancy.enrollment import create_token
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant, set_subscription

ROOT = Path(__file__).resolve().parents[2]
BUFFER = 2 << 20
pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(scope="module")
def wire() -> ModuleType:
    """What starts a real server: see tests/ingest/wire.py."""
    spec = importlib.util.spec_from_file_location("kaimon_test_wire", ROOT / "tests" / "ingest" / "wire.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server(capturing: None, wire: ModuleType, tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "home").mkdir()
    made = wire.Server(tmp_path / "home", tmp_path / "ingest.log")
    yield made
    made.kill()


@pytest.fixture
def database(server: Any) -> Iterator[Database]:
    opened = open_database(TenancySettings(home=server.home))
    yield opened
    opened.close()


class Agent:
    """The real agent, which watches one folder."""

    def __init__(self, server: Any, token: str, folder: Path, watched: Path) -> None:
        self.log, self.socket = folder / "agent.log", folder / "metrics.sock"
        options = {
            "server": server.url,
            "ca": server.home / "tls" / "ca.pem",
            "state-dir": folder / "state",
            "include": watched,
            "metrics-socket": self.socket,
            "token-file": "-",
            "cut-interval": "100ms",
            "heartbeat": "1s",
            "collapse-window": "0",
            "auth-retry": "1s",
            "buffer-bytes": BUFFER,
            "stop-timeout": "60s",
            "send-timeout": "60s",
        }
        command = [ROOT / "build" / "kaimon-agent", "run"]
        command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log)
        assert self.process.stdin is not None
        self.process.stdin.write(token.encode() + b"\n")
        self.process.stdin.close()

    def said(self, message: str) -> list[dict[str, Any]]:
        assert self.process.poll() is None, self.log.read_text()
        # The last line may be in the making.
        lines = self.log.read_bytes().splitlines(keepends=True)
        told = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [line for line in told if line["msg"] == message]

    def metrics(self) -> dict[str, float]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(b"GET /metrics HTTP/1.0\r\nHost: agent\r\n\r\n")
            raw = b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()
        families = text_string_to_metric_families(raw.partition("\r\n\r\n")[2])
        samples = [sample for family in families for sample in family.samples]
        return {"/".join([one.name, *one.labels.values()]): one.value for one in samples}

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(90) == 0, self.log.read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        self.process.wait(10)


def books(wire: ModuleType, home: Path, tenant: str) -> tuple[set[str], Counter[str]]:
    """Hold both equations at every batch that is staged; return the paths that came and the rows that are lost."""
    found, paths = [], set[str]()
    for segment in wire.segments(home, tenant):
        events = segment.events
        for index, record in enumerate(segment.batches):
            rows = events.filter(events["batch"] == index).select("cpu", "seq", "count", "path")
            assert (record.rejected, rows.height) == (0, record.rows)
            found.append((record, rows))
            paths.update(rows["path"])
    found.sort(key=lambda pair: pair[0].batch_seq)
    assert [record.batch_seq for record, _ in found] == list(range(1, len(found) + 1)), "a batch is missing, or twice"
    assert found[-1][0].final
    numbers, counts = defaultdict[int, set[int]](set), Counter[int]()
    for record, rows in found:
        for cpu, seq, count, _ in rows.iter_rows():
            assert seq not in numbers[cpu], "a row came twice"
            numbers[cpu].add(seq)
            counts[cpu] += count
        for one in record.counters:
            lost_rows, lost_events = sum(one["lost_rows"].values()), sum(one["lost_events"].values())
            assert len(numbers[one["cpu"]]) + lost_rows == one["next_seq"]
            assert counts[one["cpu"]] + lost_events + one["filtered"] + one["pending"] == one["seen"]
    lost = Counter[str]()
    for one in found[-1][0].counters:
        lost.update(one["lost_rows"])
    return paths, lost


def test_an_agent_whose_subscription_ends_slows_down_says_so_and_accounts_for_all(
    server: Any, database: Database, wire: ModuleType, tmp_path: Path
) -> None:
    watched = tmp_path.resolve() / "watched"
    watched.mkdir()
    create_tenant(database, "acme", subscription="active")
    agent = Agent(server, create_token(database, "acme")[1], tmp_path, watched)
    try:
        wire.wait_until(lambda: bool(agent.said("capturing")), "the agent to capture", 60)
        (watched / "before").touch()
        wire.wait_until(lambda: agent.metrics()["kaimon_agent_delivered_rows_total"] > 0, "the first rows")
        set_subscription(database, "acme", "ended")
        wire.wait_until(lambda: bool(agent.said("not_welcome")), "the refusal")

        # More than its memory holds, of names that do not compress.
        def shed() -> float:
            metrics = agent.metrics()
            assert metrics["kaimon_agent_buffer_bytes"] <= BUFFER
            return metrics["kaimon_agent_lost_rows_total/shed"]

        made = 0
        while shed() == 0:
            assert (made := made + 2_000) < 400_000, "it never let go of anything"
            for _ in range(2_000):
                path = watched / secrets.token_hex(48)
                path.touch()
                path.unlink()
        wire.wait_until(lambda: len(agent.said("not_welcome")) >= 4, "it to ask again")
        metrics = agent.metrics()
        assert metrics["kaimon_agent_accepted"] == 0
        assert metrics["kaimon_agent_answers_total/403"] >= 4
        told = agent.said("not_welcome")
        assert {(one["status"], one["code"], one["wait_ms"]) for one in told} == {(403, "subscription_lapsed", 1000)}
        assert all(one["detail"].startswith("the subscription was ended at ") for one in told)
        asked = [datetime.fromisoformat(one["time"]) for one in told]
        assert all((later - earlier).total_seconds() >= 1 for earlier, later in pairwise(asked))

        set_subscription(database, "acme", "past_due")
        wire.wait_until(lambda: agent.metrics()["kaimon_agent_accepted"] == 1, "it to be welcome")
        (watched / "after").touch()
        wire.wait_until(lambda: bool(agent.said("subscription_notice")), "it to say that payment is past due")
        assert agent.said("subscription_notice")[0]["notice"].startswith("past_due; grace_ends_at=")
        agent.stop()
    finally:
        agent.close()
    assert server.stop() == 0
    paths, lost = books(wire, server.home, "acme")
    # Sensitive files that others on this machine open are told too.
    paths = {path for path in paths if path.startswith(f"{watched}/")}
    assert {str(watched / name) for name in ("before", "after")} <= paths
    assert lost["shed"] > 0
    assert len(paths) - 2 <= made <= len(paths) - 2 + lost.total(), "a file is neither told nor counted"
    assert not +(lost - Counter({cause: lost[cause] for cause in ("shed", "ring")})), "lost for no such reason"


def test_an_agent_past_the_days_events_waits_says_so_and_delivers_all_once_the_limit_is_raised(
    server: Any, database: Database, wire: ModuleType, tmp_path: Path
) -> None:
    watched = tmp_path.resolve() / "watched"
    watched.mkdir()
    # The day's events are counted anew at midnight.
    wire.wait_until(lambda: (datetime.now(UTC) + timedelta(minutes=2)).date() == datetime.now(UTC).date(), "a day", 150)
    create_tenant(database, "acme", subscription="active", max_daily_events=50)
    agent = Agent(server, create_token(database, "acme")[1], tmp_path, watched)
    made = 0

    def refused() -> list[dict[str, Any]]:
        """Make another file, and return what the agent has said of the limit."""
        nonlocal made
        (watched / f"{made}").touch()
        made += 1
        return [one for one in agent.said("server_busy") if one["code"] == "daily_limit"]

    try:
        wire.wait_until(lambda: bool(agent.said("capturing")), "the agent to capture", 60)
        wire.wait_until(lambda: bool(refused()), "the limit", 60)
        told = refused()[0]
        assert told["status"] == 429
        assert "50 events" in told["detail"]
        left = datetime.combine(datetime.now(UTC) + timedelta(days=1), time.min, UTC) - datetime.now(UTC)
        assert 0 < told["wait_ms"] / 1000 <= min(3600, left.total_seconds()) + 90, "not past an hour, nor the day"
        delivered = agent.metrics()["kaimon_agent_delivered_rows_total"]
        wire.wait_until(lambda: bool(refused()) and agent.metrics()["kaimon_agent_buffer_rows"] > 0, "rows to wait")
        assert agent.metrics()["kaimon_agent_delivered_rows_total"] == delivered
        assert len([one for one in agent.said("server_busy") if one["code"] == "daily_limit"]) == 1, "it asks no more"

        other = server.enroll(database, "acme")
        assert server.send(other, b"").status_code == 429, "it is the tenant's limit"
        set_subscription(database, "acme", max_daily_events=1_000_000)
        wire.wait_until(lambda: server.send(other, b"").status_code != 429, "the worker to know")
        agent.stop()
    finally:
        agent.close()
    assert server.stop() == 0
    paths, lost = books(wire, server.home, "acme")
    assert {str(watched / f"{number}") for number in range(made)} <= paths
    assert not +lost
