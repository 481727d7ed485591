"""Several workers on one port: they answer as one, count as one, and each hears of a revocation in time."""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from ingest.metrics import forget_the_dead
from tenancy.database import Database, open_database
from tenancy.enrollment import list_tokens, revoke_token
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

WORKERS = 2


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, wire: ModuleType) -> Iterator[Any]:
    """A server of two workers."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "home").mkdir()
    running = wire.Server(folder / "home", folder / "log", workers=WORKERS)
    yield running
    running.kill()


@pytest.fixture(scope="module")
def database(pair: Any) -> Iterator[Database]:
    opened = open_database(TenancySettings(home=pair.home))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def lines(pair: Any, wire: ModuleType) -> Iterator[list[httpx.Client]]:
    """One kept connection to each worker."""
    trust = ssl.create_default_context(cafile=str(pair.home / "tls" / "ca.pem"))
    found: dict[str, httpx.Client] = {}
    others = []

    def reached_all() -> bool:
        client = httpx.Client(
            base_url=pair.url, verify=trust, timeout=60, trust_env=False, limits=httpx.Limits(max_connections=1)
        )
        answer = client.get("/readyz")
        if answer.status_code == 200 and answer.json()["node"] not in found:
            found[answer.json()["node"]] = client
        else:
            others.append(client)
        return len(found) == WORKERS

    wire.wait_until(reached_all, "a connection to each worker", 60)
    yield list(found.values())
    for client in [*found.values(), *others]:
        client.close()


def send(client: httpx.Client, host: Any, body: bytes) -> httpx.Response:
    return client.post("/v1/batches", content=body, headers=host.headers(body))


def test_a_revoked_credential_is_refused_by_every_worker_within_a_second(
    pair: Any, database: Database, lines: list[httpx.Client]
) -> None:
    create_tenant(database, "revoked", subscription="active")
    host = pair.enroll(database, "revoked")
    together = threading.Barrier(WORKERS + 1)

    def taken_last(client: httpx.Client) -> tuple[int, float, float]:
        """Send until refused for good: how many were taken, when the last of them was sent, and when that ended."""
        taken, last, refused = 0, 0.0, None
        while refused is None or time.monotonic() < refused + 1.0:
            began = time.monotonic()
            status = send(client, host, host.batch(1)).status_code
            if status == 200:
                taken, last, refused = taken + 1, began, None
                if taken == 3:
                    together.wait(60)
            elif refused is None:
                assert status == 401
                refused = began
        return taken, last, refused

    (token,) = list_tokens(database, "revoked")
    with ThreadPoolExecutor(WORKERS) as pool:
        workers = [pool.submit(taken_last, client) for client in lines]
        # Each worker knows the credential by now, and is busy with it.
        together.wait(60)
        assert revoke_token(database, "revoked", token.token_id) == 1
        committed = time.monotonic()
        found = [worker.result() for worker in workers]
    for taken, last, _ in found:
        assert taken >= 3
        assert last - committed < 1.0
    print("taken for", [f"{last - committed:.3f} s" for _, last, _ in found], "after the revocation")


def test_workers_stage_under_names_of_their_own_and_are_counted_as_one(
    pair: Any, database: Database, lines: list[httpx.Client], wire: ModuleType
) -> None:
    create_tenant(database, "counted")
    host = pair.enroll(database, "counted")
    for client in lines:
        assert send(client, host, host.batch(5)).json()["accepted"] == 5
    assert len({segment.node for segment in wire.segments(pair.home, "counted")}) == WORKERS
    for client in lines:
        assert 'kaimon_ingest_tenant_events_total{tenant="counted"} 10.0' in client.get("/metrics").text
    nothing_waits = re.compile(r"^kaimon_ingest_waiting_batches 0\.0$", re.MULTILINE)
    # What the other worker holds is as old as its last look, which may have come while a batch waited.
    for client in lines:
        wire.wait_until(
            lambda of=client: nothing_waits.search(of.get("/metrics").text) is not None, "an empty queue", 60
        )


def test_what_dead_workers_held_is_forgotten_and_what_they_counted_is_not(tmp_path: Path) -> None:
    for name in ("gauge_livesum_1.db", "gauge_livesum_999999999.db", "counter_999999999.db"):
        (tmp_path / name).touch()
    forget_the_dead(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_999999999.db", "gauge_livesum_1.db"]
