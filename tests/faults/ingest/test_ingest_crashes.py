"""Ingest dies or doubles under load, agents send again what was not answered: each event lands exactly once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from lake.reads import scan
from lake.settings import LakeSettings
from pipelines.landing import land_tenant
from tenancy.database import Database, open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

TENANT = "acme"
HOSTS = 6
ROWS = 25
POINTS = ["before it begins", "before the link", "before the folder's fsync", "when it is durable"]


class Sender:
    """A host that keeps every batch until it is answered, as agents do."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.answered = 0
        self.unanswered: list[bytes] = []

    def send_until_it_breaks(self, server: Any, most: int) -> None:
        for _ in range(most):
            self.unanswered.append(self.host.batch(ROWS))
            if not self.send(server):
                return

    def send(self, server: Any) -> bool:
        """Send what was not answered, in order; say whether all of it is now."""
        while self.unanswered:
            try:
                answer = server.send(self.host, self.unanswered[0])
            except (httpx.TransportError, RuntimeError):
                return False
            if answer.status_code != 200:
                return False
            assert answer.json()["accepted"] == ROWS
            del self.unanswered[0]
            self.answered += 1
        return True


@pytest.fixture
def database(tmp_path: Path) -> Any:
    (tmp_path / "home").mkdir()
    opened = open_database(TenancySettings(home=tmp_path / "home"))
    create_tenant(opened, TENANT)
    yield opened
    opened.close()


def all_of(senders: list[Sender], do: Callable[[Sender], Any]) -> None:
    with ThreadPoolExecutor(len(senders)) as pool:
        list(pool.map(do, senders))


def assert_landed_exactly_once(database: Database, home: Path, senders: list[Sender]) -> None:
    """Land everything; hold the tables against what was sent, by ledger and by content."""
    settings = LakeSettings(home=home)
    land_tenant(database, TENANT, "test", settings)
    again = land_tenant(database, TENANT, "test", settings)
    assert (again.batches, again.rows) == (0, 0)
    ledger = scan(TENANT, "batches", settings=settings).collect()
    landed = [
        (agent, load, seq)
        for agent, load, seq, outcome in ledger.select("agent_id", "load_id", "batch_seq", "outcome").iter_rows()
        if outcome == "landed"
    ]
    sent = [
        (sender.host.agent_id, sender.host.load_id, seq)
        for sender in senders
        for seq in range(1, sender.host.batch_seq + 1)
    ]
    assert Counter(landed) == dict.fromkeys(sent, 1)
    assert "conflict" not in set(ledger["outcome"])
    events = scan(TENANT, "events", settings=settings).collect()
    rows = Counter(events.select("agent_id", "load_id", "cpu", "seq", "path").iter_rows())
    written = [
        (sender.host.agent_id, sender.host.load_id, 0, seq, f"/srv/data/{seq}")
        for sender in senders
        for seq in range(sender.host.next_seq)
    ]
    assert rows == dict.fromkeys(written, 1)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_ingest_killed_at_any_point_of_a_put_loses_and_doubles_nothing(
    tmp_path: Path, database: Database, wire: ModuleType, point: str
) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    command = [sys.executable, str(Path(__file__).with_name("killed_ingest.py")), point, "3"]
    dying = wire.Server(home, log, command, commit_linger_ms=20)
    senders = [Sender(dying.enroll(database, TENANT)) for _ in range(HOSTS)]
    try:
        all_of(senders, lambda sender: sender.send_until_it_breaks(dying, 50))
        assert dying.process.wait(timeout=60) != 0
    finally:
        dying.kill()
    assert [bool(sender.unanswered) for sender in senders] == [True] * HOSTS
    assert sum(sender.answered for sender in senders) > 0
    answered = sum(sender.answered for sender in senders)
    staged = len(wire.staged_batches(home, TENANT))
    in_flight = sum(len(sender.unanswered) for sender in senders)
    # What makes the point worth its test: the kill left batches durable and unanswered, or it did not.
    assert (staged > answered) == (point in POINTS[2:])
    assert staged <= answered + in_flight
    successor = wire.Server(home, log)
    try:
        all_of(senders, lambda sender: sender.send(successor))
        all_of(senders, lambda sender: sender.send_until_it_breaks(successor, 3))
        assert not any(sender.unanswered for sender in senders)
    finally:
        successor.stop()
    assert_landed_exactly_once(database, home, senders)


@pytest.mark.slow
def test_batches_that_two_nodes_accepted_land_once(tmp_path: Path, database: Database, wire: ModuleType) -> None:
    home = tmp_path / "home"
    nodes = [wire.Server(home, tmp_path / f"log-{number}", commit_linger_ms=20) for number in (1, 2)]
    try:
        senders = [Sender(nodes[0].enroll(database, TENANT)) for _ in range(HOSTS)]

        def send_to_both(sender: Sender) -> None:
            for _ in range(5):
                body = sender.host.batch(ROWS)
                with ThreadPoolExecutor(2) as pool:
                    answers = list(pool.map(lambda node: node.send(sender.host, body), nodes))  # noqa: B023
                assert [answer.status_code for answer in answers] == [200, 200]
                assert [answer.json()["duplicate"] for answer in answers] == [False, False]

        all_of(senders, send_to_both)
    finally:
        for node in nodes:
            node.stop()
    staged = Counter(wire.staged_batches(home, TENANT))
    assert set(staged.values()) == {2}
    assert len({segment.node for segment in wire.segments(home, TENANT)}) == 2
    assert_landed_exactly_once(database, home, senders)
    ledger = scan(TENANT, "batches", settings=LakeSettings(home=home)).collect()
    assert Counter(ledger["outcome"]) == {"landed": 5 * HOSTS, "duplicate": 5 * HOSTS}
