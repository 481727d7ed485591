"""A crowd of tenants: landed by processes of the run's own, of which one may die."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kaimon.base.clock import utc_now
from pipelines.drain import drain
from pipelines.landing.helpers import HelperError, Helpers
from pipelines.settings import PipelineSettings

START = datetime(2026, 3, 4, tzinfo=UTC)


def one_batch(load: Any) -> Any:
    load.do(START)
    load.cut(START, final=True)
    return load


@pytest.fixture
def crowd(home: Any, load: Any, new_load: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two tenants of whom each has something staged."""
    monkeypatch.setattr(home.db, "clock", utc_now)
    home.stage(home.tenant("acme"), one_batch(load))
    home.stage(home.tenant("globex"), one_batch(new_load(agent_id="agt_00000000000000bb")))
    return home


def children() -> list[int]:
    """The processes that land for this one."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = status.with_name("cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == os.getpid() and "pipelines.landing.helper" in command:
            found.append(int(status.parent.name))
    return found


def test_a_crowd_lands_in_processes_of_its_own_each_tenant_once_and_a_bad_one_alone(crowd: Any) -> None:
    next((crowd.path / "staging" / "acme").rglob("*.parquet")).write_bytes(b"not a segment")
    outcome = drain(crowd.db, "test", crowd.lake, PipelineSettings(landing_crowd=2))
    assert outcome.failed == {"acme": "SegmentError"}
    assert {tenant: found["rows"] for tenant, found in outcome.done.items()} == {"globex": 1}
    assert not children()


def test_a_process_that_is_killed_fails_its_tenant_and_the_next_one_lands_it(crowd: Any) -> None:
    helpers = Helpers(crowd.db, crowd.lake, "test", 1, 1000)
    try:
        assert helpers.land("acme", True, lambda: False).rows == 1
        [process] = children()
        os.kill(process, signal.SIGKILL)
        with pytest.raises(HelperError, match="globex: ProcessDied"):
            helpers.land("globex", True, lambda: False)
        assert helpers.land("globex", True, lambda: False).rows == 1
    finally:
        helpers.close()
    assert not children()
