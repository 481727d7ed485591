"""The rollups' own checks: what is rolled up of a day passes, and whatever is wrong in it is refused and named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from pipelines.checks.rollups import KEYS, rollup_metrics, totals_of
from pipelines.checks.rules import ROLLUP_RULES
from pipelines.checks.suite import validate
from pipelines.resources import Platform
from pipelines.rollup_checks import check_rollups
from pipelines.rollups.activity import activity
from pipelines.rollups.actors import processes, top_paths, users
from pipelines.rollups.completeness import arrivals, completeness
from pipelines.rollups.day import ALL as ROLLED
from pipelines.rollups.sensitive import sensitive
from tenancy.days import get
from tests.pipelines.conftest import Load

DAY = date(2026, 3, 4)
NINE = datetime(2026, 3, 4, 9, tzinfo=UTC)
BEAT = timedelta(seconds=30)
Wrong = Callable[[pl.DataFrame], pl.DataFrame]


def busy(load: Any) -> Any:
    for number in range(6):
        at = NINE + number * BEAT
        load.do(at, operation="open", path="/etc/shadow", count=2)
        load.do(at, cpu=1, operation="rename", path="/tmp/x", target_path="/srv/id_rsa", result=13, process="mv")
        load.filter_out(3)
        load.cut(at, final=number == 5)
    return load


def first(**columns: Any) -> Wrong:
    """Change a table's first row."""
    is_first = pl.int_range(pl.len()) == 0
    given = {name: value if isinstance(value, pl.Expr) else pl.lit(value) for name, value in columns.items()}
    return lambda rows: rows.with_columns(
        pl.when(is_first).then(value).otherwise(name).cast(rows.schema[name]).alias(name)
        for name, value in given.items()
    )


def test_a_tenant_with_a_wrong_rollup_fails_alone_and_nothing_is_told_of_its_day(
    home: Any, load: Any, new_load: Any
) -> None:
    good, bad = home.tenant("good"), home.tenant("bad")
    home.stage(good, busy(load))
    home.stage(bad, busy(new_load(agent_id="agt_00000000000000bb")))
    home.run("events")
    assert home.run("day_checks", "sealed_day", *KEYS, "findings", day=DAY).success
    home.tables(bad).replace_day("activity", first(events=100)(home.table(bad, "activity")), DAY)
    result = home.run("rollup_checks", "facts", day=DAY)
    assert result.success
    [verdict] = result.get_asset_check_evaluations()
    assert (verdict.passed, verdict.severity.value) == (False, "WARN")
    assert verdict.metadata["broken"].value == {"bad": ["activity_difference"]}
    assert "| activity | `activity_difference` |" in verdict.metadata["report"].value
    assert "bad: " in verdict.metadata["report"].value
    states = {tenant: get(home.db, tenant, DAY) for tenant in (good, bad)}
    assert {tenant: state.state for tenant, state in states.items() if state} == {"good": "passed", "bad": "failed"}
    assert (home.table(good, "facts").height, home.table(bad, "facts").height) == (1, 0)
    assert home.run(day=DAY).success, "closing the day anew rolls it up anew"
    state = get(home.db, bad, DAY)
    assert state is not None
    assert (state.state, home.table(bad, "facts").height) == ("passed", 1)


def test_data_that_comes_after_the_rollups_makes_them_old_and_not_wrong(home: Any, load: Any, new_load: Any) -> None:
    tenant = home.tenant("acme")
    home.stage(tenant, busy(load))
    home.run("events")
    assert home.run("day_checks", "sealed_day", *KEYS, day=DAY).success
    home.stage(tenant, busy(new_load(agent_id="agt_00000000000000bb")), node="node-2")
    home.run("events")
    checked = check_rollups(Platform(), home.db, DAY, "test", [tenant])
    assert (checked.broken, checked.outcome.skipped) == ({}, {tenant: "data has come since the day's checks"})
    state = get(home.db, tenant, DAY)
    assert state is not None
    assert state.state == "open"


EVENING = datetime(2026, 3, 4, 21, tzinfo=UTC)
BROKEN: dict[str, tuple[str, str, Wrong]] = {
    "an event too many": ("activity", "difference", first(events=pl.col("events") + 1)),
    "a row too few": ("users", "difference", lambda rows: rows[1:]),
    "a denial lost": ("processes", "difference", lambda rows: rows.with_columns(denied=pl.lit(0, pl.Int64))),
    "a path left out": ("top_paths", "difference", lambda rows: rows[:-1]),
    "a sensitive file left out": ("sensitive", "difference", lambda rows: rows[:-1]),
    "captured out of nothing": ("completeness", "difference", first(captured=pl.col("captured") + 1)),
    "new and yet not there": ("new_behaviour", "difference", first(exe="/tmp/other")),
    "another day's hour": ("activity", "outside_day", first(hour=EVENING + timedelta(days=1))),
    "half an hour": ("activity", "outside_domain", first(hour=EVENING + timedelta(minutes=30))),
    "an unknown operation": ("activity", "outside_domain", first(operation="levitate")),
    "nothing happened": ("users", "outside_domain", first(events=0)),
    "more denied than done": ("processes", "outside_domain", first(denied=1_000)),
    "last before first": ("processes", "outside_domain", first(last_time=NINE - timedelta(hours=1))),
    "a rank twice": ("top_paths", "outside_domain", first(rank=2)),
    "another file's pattern": ("sensitive", "outside_domain", first(pattern="*.pem")),
    "an unknown verdict": ("completeness", "outside_domain", first(state="fine")),
    "no name": ("users", "nulls", first(hostname=None)),
    "a row twice": ("completeness", "doubled", lambda rows: pl.concat([rows, rows[:1]])),
    "a column short": ("activity", "schema", lambda rows: rows.drop("denied")),
    "a number as text": ("activity", "schema", lambda rows: rows.cast({"events": pl.String})),
}


@pytest.fixture(scope="module")
def rolled() -> dict[str, pl.DataFrame]:
    """What a day's rollups are, and its events."""
    load = busy(Load())
    events = load.events.lazy()
    arrived = arrivals(events, load.quarantine)
    touched = sensitive(events)
    return {
        "events": load.events,
        "activity": activity(events),
        "completeness": completeness(load.batches, arrived, DAY, NINE + timedelta(days=3)),
        "top_paths": top_paths(events),
        "processes": processes(events),
        "users": users(events),
        "sensitive": touched,
        "new_behaviour": touched,
    }


def measured(rolled: dict[str, pl.DataFrame], table: str, wrong: Wrong | None = None) -> dict[str, int]:
    rows = rolled[table] if wrong is None else wrong(rolled[table])
    return rollup_metrics(table, rows.lazy(), DAY, totals_of(rolled["events"].lazy()), rolled["sensitive"])


def test_what_is_rolled_up_breaks_no_rule(rolled: dict[str, pl.DataFrame]) -> None:
    found = {name: number for table in KEYS for name, number in measured(rolled, table).items()}
    assert found == {rule.metric: 0 for rule in ROLLUP_RULES}
    assert all(rolled[table].height for table in KEYS)


@pytest.mark.parametrize(("table", "rule", "wrong"), BROKEN.values(), ids=BROKEN)
def test_each_rule_sees_what_is_wrong(rolled: dict[str, pl.DataFrame], table: str, rule: str, wrong: Wrong) -> None:
    assert measured(rolled, table, wrong)[f"{table}_{rule}"] > 0


def test_an_empty_day_breaks_no_rule(rolled: dict[str, pl.DataFrame]) -> None:
    nothing = {name: rows.clear() for name, rows in rolled.items()}
    assert not any(number for table in KEYS for number in measured(nothing, table).values())


def test_each_rollup_has_its_suite_and_a_rule_that_was_not_measured_is_broken() -> None:
    assert {rule.table for rule in ROLLUP_RULES} == set(ROLLED)
    row = {"tenant": "acme", **{rule.metric: 0 for rule in ROLLUP_RULES}, "users_nulls": None}
    assert validate(pl.DataFrame([row]).cast({"users_nulls": pl.Int64}), ROLLUP_RULES) == {"acme": ["users_nulls"]}
