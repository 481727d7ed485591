"""The control database hangs under a real server: known hosts go on for the documented time, then nobody does."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tenancy.database import open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant, use_of

GRACE_S = 15


@pytest.fixture
def away(postgres: Any, tmp_path: Path, wire: Any) -> Iterator[Any]:
    """A server whose database is PostgreSQL, and one enrolled host that it does not know yet."""
    name = postgres.create()
    (tmp_path / "home").mkdir()
    made = wire.Server(
        tmp_path / "home",
        tmp_path / "log",
        database_url=postgres.url(name),
        database_timeout_s=1,
        revocation_grace_s=GRACE_S,
        usage_every_s=0.1,
    )
    made.database_url = postgres.url(name)
    yield made
    postgres.resume()
    made.kill()
    postgres.drop(name)


def test_hosts_that_are_known_go_on_for_the_grace_and_all_go_on_once_it_answers(
    away: Any, postgres: Any, wire: Any
) -> None:
    db = open_database(TenancySettings(home=away.home, database_url=away.database_url))
    create_tenant(db, "acme", subscription="active")
    known, other = away.enroll(db, "acme"), away.enroll(db, "acme")
    assert away.send(known, known.batch()).status_code == 200
    postgres.pause()
    began = time.monotonic()
    # The database is asked for a host that is not known: that costs it its answer, and nobody else.
    asking = ThreadPoolExecutor(1)
    unknown = asking.submit(away.send, other, other.batch())
    served = refused = 0.0
    while refused == 0:
        asked = time.monotonic()
        assert asked - began < 60, "it never refused"
        answer = away.send(known, known.batch())
        if answer.status_code == 200:
            served = asked - began
        else:
            assert (answer.status_code, answer.json()["code"]) == (503, "control_plane_unavailable")
            refused = time.monotonic() - began
        time.sleep(0.05)
    # It looked every half second, so its last look is about as old as the freeze; a busy machine only adds to that.
    assert served > GRACE_S / 4
    assert refused > GRACE_S - 2
    answer = unknown.result()
    asking.shutdown()
    assert (answer.status_code, answer.json()["code"]) == (503, "control_plane_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    ready = away.client.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
    assert "revocations cannot be looked up" in ready.json()["detail"]
    assert away.client.get("/healthz").status_code == 200
    command = subprocess.run(
        [wire.KAIMON, "tenant", "list"],
        env={**os.environ, "KAIMON_HOME": str(away.home), "KAIMON_DATABASE_URL": away.database_url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (command.returncode, command.stdout) == (2, "")
    assert command.stderr == "error: the control database: connection timeout expired\n"
    postgres.resume()
    wire.wait_until(lambda: away.client.get("/readyz").status_code == 200, "it to be ready again", 60)
    for host in (known, other):
        wire.wait_until(lambda host=host: away.send(host, host.batch()).status_code == 200, "the hosts to be taken", 60)
    staged = sum(record.rows for one in wire.segments(away.home, "acme") for record in one.batches)
    wire.wait_until(lambda: use_of(db, "acme").events_today >= staged, "what was counted meanwhile", 60)
    db.close()
    said = [line["event"] for line in away.log_lines()]
    assert said.count("revocations_unreadable") == said.count("revocations_readable") == 1


def test_ingest_that_starts_without_its_database_says_so_and_ends(away: Any, postgres: Any, wire: Any) -> None:
    postgres.pause()
    done = subprocess.run(
        [wire.KAIMON, "ingest", "serve"],
        env={
            **os.environ,
            "KAIMON_HOME": str(away.home),
            "KAIMON_PORT": str(wire.free_port()),
            "KAIMON_DATABASE_URL": away.database_url,
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2
    told = (done.stdout + done.stderr).splitlines()
    assert any("ingest_not_started" in line and "connection timeout expired" in line for line in told), told
    assert "Traceback" not in done.stdout + done.stderr
