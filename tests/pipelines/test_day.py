"""A tenant's day through every asset: landed, checked, rolled up, told, delivered."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from kaimon.cli.main import build
from lake.frames import frame_schema
from lake.reads import scan
from tenancy.alarms import CLONE, raise_alarm
from tenancy.days import get
from tenancy.enrollment import create_token
from tenancy.retention import set_keep_days

DAY = date(2026, 3, 4)
START = datetime(2026, 3, 4, tzinfo=UTC)
BEAT = timedelta(seconds=30)
HOUR = timedelta(hours=1)


def live(load: Any, start: datetime, hours: float, *, final: bool = True) -> Any:
    """A load that beats every 30 s and does something on each of its CPUs every few minutes."""
    at, number = start, 0
    while at <= start + timedelta(hours=hours):
        if number % 10 == 0:
            load.do(at, cpu=0, operation="create", path=f"/srv/{number}")
            load.do(at, cpu=1, count=3, path=f"/srv/{number}", process="rsync", user="root", uid=0)
            load.filter_out(5)
        number += 1
        at += BEAT
        load.cut(at, final=final and at > start + timedelta(hours=hours))
    return load


def checks(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    return result.get_asset_check_evaluations()[0]


def test_a_day_goes_from_segments_to_a_delivered_page(home: Any, load: Any) -> None:
    tenant = home.tenant("acme")
    live(load, START + 9 * HOUR, 1.5)
    home.stage(tenant, load)
    assert home.run("events").success
    result = home.run(day=DAY)
    assert result.success
    assert checks(result).passed
    state = get(home.db, tenant, DAY)
    assert state is not None
    assert state.state == "passed"
    assert home.table(tenant, "activity")["events"].sum() == load.events["count"].sum()
    hours = home.table(tenant, "completeness")
    assert hours.height == 24
    assert set(hours["state"]) == {"complete", "not_monitored"}
    page = (home.path / "outbox" / "acme" / "day" / "2026-03-04-r1.html").read_text()
    assert "Wednesday, 4 March 2026" in page
    assert f"{load.events['count'].sum()}</b> file events, and every event is accounted for." in page
    assert "0 unaccounted" in page
    counts = result.asset_materializations_for_node("activity")[0].metadata
    assert counts["events"].value == load.events["count"].sum()


def test_closing_a_day_again_changes_nothing(home: Any, load: Any) -> None:
    tenant = home.tenant("acme")
    home.stage(tenant, live(load, START + 9 * HOUR, 0.2))
    home.run("events")
    for _ in range(2):
        assert home.run(day=DAY).success
    for table in ("facts", "summaries", "deliveries"):
        assert home.table(tenant, table).height == 1
    assert home.table(tenant, "completeness").height == 24
    assert len(list((home.path / "outbox").rglob("*.html"))) == 1


def test_late_data_makes_a_revision_that_says_what_changed(home: Any, load: Any, new_load: Any) -> None:
    tenant = home.tenant("acme")
    home.stage(tenant, live(load, START + 9 * HOUR, 0.2))
    home.run("events")
    home.run(day=DAY)
    other = new_load(agent_id="agt_00000000000000bb", hostname="db-1")
    home.stage(tenant, live(other, START + 15 * HOUR, 0.2), node="node-2")
    home.run("events")
    assert home.run("facts", day=DAY).success
    assert home.table(tenant, "facts").height == 1, "a reopened day waits for its check"
    home.run(day=DAY)
    summaries = home.table(tenant, "summaries").sort("revision")
    assert summaries["revision"].to_list() == [1, 2]
    changed = json.loads(summaries["document"][1])["changes"]
    assert ["File events", "12", "24"] in changed
    page = (home.path / "outbox" / "acme" / "day" / "2026-03-04-r2.html").read_text()
    assert "Changed since revision 1" in page
    assert (home.path / "outbox" / "acme" / "day" / "2026-03-04-r1.html").exists()


def test_a_delivery_killed_before_its_record_is_done_again_and_recorded_once(home: Any, load: Any) -> None:
    tenant = home.tenant("acme")
    home.stage(tenant, live(load, START + 9 * HOUR, 0.2))
    home.run("events")
    home.run(day=DAY)
    recorded = home.table(tenant, "deliveries")
    page = next((home.path / "outbox").rglob("*.html"))
    before = page.read_bytes()
    home.tables(tenant).replace_day("deliveries", recorded.clear(), DAY)
    assert home.run("delivery", day=DAY).success
    again = home.table(tenant, "deliveries")
    assert page.read_bytes() == before
    assert again["digest"].to_list() == recorded["digest"].to_list() == [sha256(before).hexdigest()]
    assert sorted(path.name for path in page.parent.iterdir()) == [
        "2026-03-04-r1.html", "2026-03-04-r1.pdf", "2026-03-04-r1.txt",
    ]  # fmt: skip


def test_a_tenant_whose_rows_are_short_fails_alone(home: Any, load: Any, new_load: Any) -> None:
    whole, short = home.tenant("whole"), home.tenant("short")
    other = new_load(agent_id="agt_00000000000000bb")
    home.stage(whole, live(load, START + 9 * HOUR, 0.2))
    home.stage(short, live(other, START + 9 * HOUR, 0.2))
    home.run("events")
    rows = home.table(short, "events")
    home.tables(short).replace_day("events", rows[1:], DAY)
    result = home.run(day=DAY)
    assert result.success
    verdict = checks(result)
    assert not verdict.passed
    assert verdict.severity == dg.AssetCheckSeverity.WARN
    assert verdict.metadata["broken"].value == {
        "short": ["events_unaccounted", "ledger_difference", "loads_unbalanced", "rows_unaccounted"]
    }
    states = {tenant: get(home.db, tenant, DAY) for tenant in (whole, short)}
    assert {tenant: state.state for tenant, state in states.items() if state} == {"whole": "passed", "short": "failed"}
    assert scan(short, "activity").collect().is_empty()
    assert [path.parts[-3] for path in (home.path / "outbox").rglob("*.html")] == ["whole"]


def test_when_every_tenant_fails_the_day_is_blocked(home: Any, load: Any) -> None:
    tenant = home.tenant("acme")
    home.stage(tenant, live(load, START + 9 * HOUR, 0.2))
    home.run("events")
    home.tables(tenant).replace_day("events", home.table(tenant, "events")[1:], DAY)
    result = home.run(day=DAY)
    assert checks(result).severity == dg.AssetCheckSeverity.ERROR
    assert not result.asset_materializations_for_node("activity")


def test_doubled_rows_and_rows_without_a_batch_fail_the_check(home: Any, load: Any) -> None:
    tenant = home.tenant("acme")
    home.stage(tenant, live(load, START + 9 * HOUR, 0.2))
    home.run("events")
    rows = home.table(tenant, "events")
    stray = rows[:1].with_columns(batch_seq=pl.lit(999, dtype=pl.Int64))
    home.tables(tenant).replace_day("events", pl.concat([rows, rows[:1], stray]), DAY)
    broken = checks(home.run("day_checks", day=DAY)).metadata["broken"].value["acme"]
    assert {"doubled_rows", "rows_without_batch", "ledger_difference", "events_unaccounted"} <= set(broken)


def test_a_day_of_silence_is_told_as_unknown(home: Any, load: Any) -> None:
    tenant = home.tenant("acme")
    home.stage(tenant, live(load, START + 9 * HOUR, 0.2, final=False))
    home.run("events")
    result = home.run(day=DAY + timedelta(days=3))
    assert result.success
    told = home.table(tenant, "summaries")["headline"].item()
    nobody = "0 of 1 monitored host reported 0 file events; for 24 host-hours nobody can tell what happened."
    assert told == f"1 critical or high finding is open. {nobody}"
    found = home.table(tenant, "findings").select("rule", "state", "events", "agent_id").rows()
    assert found == [("agent_silent", "opened", 24, load.agent_id)]


def test_a_running_day_can_be_told_and_says_so(home: Any, load: Any) -> None:
    tenant = home.tenant("acme")
    now = datetime.now(UTC)
    live(load, now - timedelta(minutes=5), 1 / 60, final=False)
    home.stage(tenant, load)
    home.run("events")
    assert home.run(day=now.date()).success
    page = next((home.path / "outbox").rglob("*.html")).read_text()
    assert "So far today" in page
    assert "Day still running" in page


def test_a_load_over_midnight_balances_on_both_days(home: Any, load: Any) -> None:
    tenant = home.tenant("acme")
    home.stage(tenant, live(load, START - HOUR, 2))
    home.run("events")
    for day in (DAY - timedelta(days=1), DAY):
        assert checks(home.run(day=day)).passed
    states = home.table(tenant, "completeness").sort("hour").select("hour", "state", "covered_s", "unaccounted")
    near = states.filter(pl.col("hour").is_between(START - HOUR, START + HOUR, closed="left"))
    assert near.rows() == [(START - HOUR, "complete", 3600.0, 0), (START, "complete", 3600.0, 0)]


def test_a_host_that_slept_for_days_balances_against_its_batch_of_then(home: Any, load: Any) -> None:
    tenant = home.tenant("acme")
    live(load, START - timedelta(days=5), 0.1, final=False)
    live(load, START + 9 * HOUR, 0.1)
    home.stage(tenant, load)
    home.run("events")
    assert checks(home.run(day=DAY)).passed
    states = home.table(tenant, "completeness").sort("hour")["state"].to_list()
    assert states == ["unknown"] * 10 + ["not_monitored"] * 14


def test_quarantined_lines_are_accounted_for(home: Any, load: Any) -> None:
    tenant = home.tenant("acme")
    at = START + 9 * HOUR
    load.do(at, count=2)
    load.do(at - timedelta(days=30), count=5)
    load.do(at, path="/a\\x0a")
    load.cut(at + BEAT, broken=1, final=True)
    home.stage(tenant, load)
    home.run("events")
    result = home.run(day=DAY)
    broken = checks(result).metadata["broken"].value
    assert broken == {"acme": ["events_unaccounted", "loads_unbalanced"]}, "the broken line stood for two events"
    assert home.table(tenant, "quarantine").height == 2


@pytest.mark.parametrize("name", ["activity", "completeness"])
def test_a_rollup_has_the_tables_schema_even_when_empty(home: Any, load: Any, name: str) -> None:
    tenant = home.tenant("acme")
    home.stage(tenant, live(load, START + 9 * HOUR, 0.1))
    home.run("events")
    home.run(day=DAY - timedelta(days=10))
    assert home.table(tenant, name).is_empty()


def test_every_value_of_the_facts_is_given_again_by_its_sql(home: Any, load: Any, new_load: Any) -> None:
    from lake.query import run_query
    from pipelines.summaries.document import parse

    tenant = home.tenant("acme")
    live(load, START - 2 * HOUR, 3)
    load.do(START + 2 * HOUR, path="/etc/sudoers.d/\u202ex", exe="/usr/bin/tee", count=3)
    load.do(START + 2 * HOUR, result=13, process="it's \\x0a", user=None, operation="rename", target_path="/b")
    load.lose(cause="shed", rows=2, events=9)
    load.cut(START + 2 * HOUR, broken=0)
    other = new_load(agent_id="agt_00000000000000bb", hostname="db-1")
    live(other, START + 3 * HOUR, 0.5, final=False)
    home.stage(tenant, load, other)
    now, home.db.clock = home.db.clock, lambda: START + 5 * HOUR
    create_token(home.db, tenant, "of the day")
    set_keep_days(home.db, tenant, 90)
    raise_alarm(home.db, tenant, CLONE, "one", load.agent_id, {"loads": 2})
    home.db.clock = now
    home.run("events")
    home.run(day=DAY - timedelta(days=1))
    assert home.run(day=DAY).success
    facts = parse(home.table(tenant, "facts").filter(pl.col("period_start") == DAY)["document"].item())
    assert facts.values["accounting.lost"].value == 9
    assert facts.values["events.change"].value is not None
    assert facts.values["hours.unknown"].value
    assert [(one.rule, one.severity, one.state) for one in facts.matters] == [
        ("agent_silent", "high", "opened"),
        ("sudoers_written", "high", "opened"),
    ]
    assert facts.values["findings.urgent"].value == 3
    acts = {name: facts.values[f"acts.{name}"].value for name in ("total", "access", "retention", "deletion", "alarms")}
    assert acts == {"total": 3, "access": 1, "retention": 1, "deletion": 1, "alarms": 1}
    assert facts.status == "worse"
    whole = "SELECT " + ", ".join(f"({value.sql}) AS v{n}" for n, value in enumerate(facts.values.values()))
    answer = run_query(tenant, whole, START, START + 24 * HOUR).table.to_pylist()[0]
    for n, value in enumerate(facts.values.values()):
        assert answer[f"v{n}"] == pytest.approx(value.value), (value.id, value.sql)
    said = CliRunner().invoke(build(("facts",)), ["facts", "--tenant", tenant, "--period", DAY.isoformat()])
    assert said.exit_code == 0, said.output
    assert "DIFFERS" not in said.output
    home.tables(tenant).replace_day("activity", home.table(tenant, "activity").clear(), DAY)
    said = CliRunner().invoke(build(("facts",)), ["facts", "--tenant", tenant, "--period", DAY.isoformat()])
    assert said.exit_code == 1
    assert any("events.total" in line and "DIFFERS" in line for line in said.output.splitlines())


def test_something_of_the_day_that_does_not_land_fails_it_and_what_came_later_does_not(
    home: Any, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenancy.hints import mark_staged

    tenant = home.tenant("acme")
    home.stage(tenant, live(load, START + 9 * HOUR, 0.1))
    home.run("events")
    clock = home.db.clock
    home.db.clock = lambda: START + 23 * HOUR
    mark_staged(home.db, [(tenant, "node-2", 1)])
    home.db.clock = clock
    assert checks(home.run("day_checks", day=DAY)).metadata["broken"].value == {tenant: ["unlanded_nodes"]}
    assert checks(home.run("day_checks", day=DAY - timedelta(days=1))).passed


def test_a_host_far_from_its_four_weeks_is_a_warning_that_blocks_nothing(home: Any, load: Any) -> None:
    tenant = home.tenant("acme")
    home.stage(tenant, live(load, START + 9 * HOUR, 0.1))
    home.run("events")
    row = {"hour": START, "agent_id": load.agent_id, "hostname": "web-1", "operation": "write", "paths": 1, "denied": 0}
    for back in range(1, 9):
        day = DAY - timedelta(days=back)
        rows = [row | {"event_day": day, "hour": START - timedelta(days=back), "events": 10**9, "rows": 1}]
        home.tables(tenant).replace_day("activity", pl.DataFrame(rows, schema=frame_schema("activity")), day)
    verdict = checks(home.run("day_checks", day=DAY))
    assert verdict.passed
    assert verdict.metadata["warned"].value == {tenant: ["hosts_off_volume"]}
