"""Hosts that send as agents do: one batch at a time, the same bytes until they are answered."""

from __future__ import annotations

import random
import socket
import ssl
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

from lake.reads import scan
from lake.settings import LakeSettings
from pipelines.landing import land_tenant
from tenancy.database import Database
from tenancy.enrollment import create_token, enroll
from tenancy.tenants import create_tenant

HOSTS = 6
ROWS = 25


class Sender:
    """A host that keeps every batch until it is answered, as agents do."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.answered = 0
        self.refused: Counter[int] = Counter()
        self.cuts = 0
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
                self.refused[answer.status_code] += 1
                return False
            assert answer.json()["accepted"] == ROWS
            del self.unanswered[0]
            self.answered += 1
        return True

    def cut(self, server: Any, chance: random.Random) -> None:
        """Begin to send the next batch and break off in the middle of its body."""
        body = self.unanswered[0]
        head = "".join(f"{name}: {value}\r\n" for name, value in self.host.headers(body).items())
        request = f"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode()
        trust = ssl.create_default_context(cafile=str(server.home / "tls" / "ca.pem"))
        try:
            with (
                socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
                trust.wrap_socket(plain, server_hostname="localhost") as connection,
            ):
                connection.sendall(request + body[: chance.randrange(len(body))])
                self.cuts += 1
        except OSError:
            return


def enrolled_senders(database: Database, wire: ModuleType, tenant: str) -> list[Sender]:
    """Make a tenant and its hosts, without a server."""
    create_tenant(database, tenant, subscription="active")
    _, token = create_token(database, tenant)
    made = []
    for _ in range(HOSTS):
        told = enroll(database, token, "host-1", {}, str(uuid.uuid4()), "0.1.0")
        made.append(Sender(wire.Host(tenant, told.agent_id, told.credential)))
    return made


def all_of(senders: list[Sender], do: Callable[[Sender], Any]) -> None:
    with ThreadPoolExecutor(len(senders)) as pool:
        list(pool.map(do, senders))


def keep_sending(
    server: Any, senders: list[Sender], enough: Callable[[], bool], cuts: float = 0.0, within_s: float = 200
) -> None:
    """Have every sender send, and send again, until there is enough and nothing is unanswered.

    `cuts` of the batches are begun and broken off before they are sent.
    """
    deadline = time.monotonic() + within_s

    def one(sender: Sender) -> None:
        chance = random.Random(sender.host.agent_id)
        while sender.unanswered or not enough():
            assert time.monotonic() < deadline, "not everything was answered in time"
            if not sender.unanswered:
                sender.unanswered.append(sender.host.batch(ROWS))
                if chance.random() < cuts:
                    sender.cut(server, chance)
            if not sender.send(server):
                time.sleep(chance.uniform(0, 0.05))

    all_of(senders, one)


def assert_landed_exactly_once(database: Database, home: Path, senders: list[Sender]) -> Any:
    """Land everything; hold the tables against what was sent, by ledger and by content. Return the ledger.

    A row is in `events`, or in quarantine if the clock put it out of its window.
    """
    tenant = senders[0].host.tenant
    settings = LakeSettings(home=home)
    land_tenant(database, tenant, "test", settings)
    again = land_tenant(database, tenant, "test", settings)
    assert (again.batches, again.rows) == (0, 0)
    ledger = scan(tenant, "batches", settings=settings).collect()
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
    assert set(ledger["outcome"]) <= {"landed", "duplicate"}
    events = scan(tenant, "events", settings=settings).collect()
    rows = Counter(events.select("agent_id", "load_id", "cpu", "seq", "path").iter_rows())
    written = [
        (sender.host.agent_id, sender.host.load_id, 0, seq, f"/srv/data/{seq}")
        for sender in senders
        for seq in range(sender.host.next_seq)
    ]
    if (quarantined := ledger["quarantined"].sum()) == 0:
        assert rows == dict.fromkeys(written, 1)
        return ledger
    kept = scan(tenant, "quarantine", settings=settings).collect()
    assert set(kept["code"]) == {"out_of_window"}
    assert kept.select("agent_id", "load_id", "batch_seq", "line").is_unique().all()
    assert set(rows.values()) == {1}
    assert set(rows) <= set(written)
    assert (kept.height, events.height + kept.height) == (quarantined, len(written))
    return ledger
