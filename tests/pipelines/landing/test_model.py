"""Any interleaving of batches, retries, nodes, crashes and landings gives the table of the simple sequential model."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interruptions import Crashes, Killed

from lake import commits
from lake.settings import LakeSettings
from pipelines.landing import land, land_tenant
from tenancy.database import Database
from tenancy.tenants import create_tenant

NUMBERS = itertools.count()
LOADS = ("11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222")
ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("stage"),
            st.sampled_from(["n1", "n2", "n3"]),
            st.lists(st.tuples(st.integers(0, 1), st.integers(1, 6), st.integers(0, 2)), min_size=1, max_size=3),
        ),
        st.tuples(st.just("land"), st.sampled_from([2, 5, 100]), st.just(())),
        st.tuples(st.just("crash"), st.sampled_from([2, 5, 100]), st.integers(1, 14)),
    ),
    min_size=3,
    max_size=12,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_any_interleaving_lands_each_batch_once(
    db: Database, home: Path, staging: ModuleType, monkeypatch: Any, actions: list[tuple[str, Any, Any]]
) -> None:
    tenant = f"model-{next(NUMBERS)}"
    create_tenant(db, tenant)
    crashes = Crashes()
    sent: dict[tuple[str, int], Any] = {}
    staged: dict[str, int] = {}
    copies = 0
    with monkeypatch.context() as patch:
        patch.setattr(commits, "write_deltalake", crashes.around(commits.write_deltalake))
        patch.setattr(land, "mark_open", crashes.around(land.mark_open))
        for action, where, what in [*actions, ("land", 100, ())]:
            if action == "stage":
                batches = [
                    sent.setdefault((LOADS[load], number), staging.batch(number, rows=rows, load=LOADS[load]))
                    for load, number, rows in what
                ]
                staged[where] = staged.get(where, 0) + 1
                staging.stage(home, tenant, where, staged[where], batches)
                copies += len(batches)
                continue
            patch.setattr(land, "GROUP_ROWS", where)
            crashes.left = what if action == "crash" else 0
            try:
                land_tenant(db, tenant, "model", LakeSettings(home=home))
            except Killed:
                continue
            finally:
                crashes.left = 0
    if sent:
        staging.assert_each_once(home, tenant, list(sent.values()))
    ledger = staging.read(home, tenant, "batches")
    assert ledger.height == copies
    assert ledger.filter(pl.col("outcome") == "conflict").is_empty()
