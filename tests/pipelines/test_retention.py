"""Retention by an injected clock: what is due goes with its bytes, and nothing else does."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lake.commits import Writer
from lake.settings import LakeSettings
from lake.stores import open_store
from pipelines.landing import land_tenant
from pipelines.resources import Platform
from pipelines.retention.daily import NIGHTLY, retain, retention
from pipelines.settings import PipelineSettings
from pipelines.tenant_loop import Outcome
from pipelines.verify import verify
from tenancy.alarms import list_alarms
from tenancy.audit import read_chain
from tenancy.days import list_days
from tenancy.erasures import get_erasure
from tenancy.retention import set_keep_days
from tenancy.tenants import create_tenant, get_tenant, set_subscription

FIRST = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Clock:
    def __init__(self) -> None:
        self.now = FIRST

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(home: Any, monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setenv("KAIMON_REVOCATION_GRACE_S", "0.01")
    home.db.settings = type(home.db.settings)()
    home.db.clock = Clock()
    return home.db.clock


@pytest.fixture
def night(home: Any, clock: Clock) -> Callable[[datetime], Outcome]:
    """Run retention at a moment."""

    def run(moment: datetime) -> Outcome:
        clock.now = moment
        outcome = retain(home.db, "test", LakeSettings(), PipelineSettings(), wait=lambda _seconds: None)
        assert not outcome.failed
        return outcome

    return run


def acts(home: Any, tenant: str) -> list[str]:
    return [str(record.content["act"]) for record in read_chain(home.db, tenant)[1]]


@pytest.mark.parametrize(
    ("state", "ends", "reason"),
    [
        ("trial", {"trial_ends_at": FIRST + 10 * DAY}, "trial"),
        ("past_due", {"grace_ends_at": FIRST + 10 * DAY}, "ended"),
    ],
)
def test_what_ended_by_itself_is_erased_thirty_days_after_its_end_and_not_a_moment_before(
    home: Any, night: Callable[[datetime], Outcome], state: str, ends: dict[str, datetime], reason: str
) -> None:
    create_tenant(home.db, "acme", subscription=state, **ends)
    night(FIRST + 40 * DAY - timedelta(microseconds=1))
    assert get_tenant(home.db, "acme") is not None
    assert night(FIRST + 40 * DAY).done["acme"] == {"erased": 1}
    erasure = get_erasure(home.db, "acme")
    assert erasure is not None
    assert (erasure.reason, erasure.finished_at) == (reason, FIRST + 40 * DAY)
    assert acts(home, "acme")[-2:] == ["tenant.erase.begin", "tenant.erase"]


def test_an_ended_subscription_has_thirty_days_and_one_that_is_taken_up_again_is_kept(
    home: Any, clock: Clock, night: Callable[[datetime], Outcome]
) -> None:
    for tenant in ("acme", "beta"):
        create_tenant(home.db, tenant, subscription="active")
        set_subscription(home.db, tenant, "ended")
    night(FIRST + 29 * DAY)
    set_subscription(home.db, "beta", "active")
    night(FIRST + 30 * DAY)
    assert get_tenant(home.db, "acme") is None
    assert get_tenant(home.db, "beta") is not None
    night(FIRST + 4000 * DAY)
    assert get_tenant(home.db, "beta") is not None, "an active tenant is kept for ever"


def live(home: Any, new_load: Any, clock: Clock, days: int) -> Any:
    """One load that sends each day, landed and closed day by day."""
    home.tenant("acme")
    load = new_load()
    for number in range(days):
        at = FIRST + number * DAY
        load.do(at, count=3)
        load.cut(at + timedelta(seconds=1), final=number == days - 1)
        clock.now = at + timedelta(seconds=2)
        home.stage("acme", load, skip=number)
        path = home.path / "staging" / "acme" / "node-1" / f"{number + 1:012d}.parquet"
        os.utime(path, (clock.now.timestamp(),) * 2)
        assert land_tenant(home.db, "acme", "test").batches == 1
    return load


def test_days_past_a_tenants_limit_go_with_their_bytes_and_the_rest_still_proves(
    home: Any, clock: Clock, new_load: Any, night: Callable[[datetime], Outcome]
) -> None:
    live(home, new_load, clock, 20)
    first, last = FIRST.date(), (FIRST + 19 * DAY).date()
    assert home.run(day=first).success
    assert home.run(day=last).success
    night(FIRST + 19 * DAY)
    assert home.table("acme", "events").height == 20
    set_keep_days(home.db, "acme", 15)
    counts = night(FIRST + 19 * DAY).done["acme"]
    assert counts["objects_dropped"] > 0
    kept = first + 4 * DAY
    for table, column, since in (
        ("events", "event_day", kept),
        ("activity", "event_day", last),
        ("completeness", "event_day", last),
        ("facts", "period_start", last),
        ("summaries", "period_start", last),
        ("batches", "received_day", kept - DAY),
    ):
        assert home.table("acme", table)[column].min() == since, table
    folders = {path.name for path in (home.path / "lake" / "acme").glob("*/*=*")}
    assert min(folder for folder in folders if folder.startswith("event_day")) == f"event_day={kept}"
    assert not list((home.path / "outbox").rglob(f"{first}-r*.html"))
    assert list((home.path / "outbox").rglob(f"{last}-r*.html"))
    assert min(state.day for state in list_days(home.db, "acme")) >= kept
    assert verify(home.tables("acme"), kept, last).holds
    chain = [record.content for record in read_chain(home.db, "acme")[1] if record.content["act"] == "retention.drop"]
    assert len(chain) == 1
    assert chain[0]["detail"]["before"] == kept.isoformat()
    assert chain[0]["detail"]["objects"]["events"] == 5, "four days, one with the file that its seal had replaced"
    assert "objects_dropped" in night(FIRST + 19 * DAY).done["acme"]
    assert acts(home, "acme").count("retention.drop") == 1, "nothing more was due"


def test_a_drop_that_was_cut_off_after_its_commit_is_finished_the_next_night(
    home: Any, clock: Clock, new_load: Any, night: Callable[[datetime], Outcome]
) -> None:
    live(home, new_load, clock, 17)
    set_keep_days(home.db, "acme", 15)
    with home.tables("acme").writer() as writer:
        assert isinstance(writer, Writer)
        writer.drop_days("events", date(2026, 3, 2))
    old = home.path / "lake" / "acme" / "events" / "event_day=2026-03-01"
    assert list(old.iterdir())
    night(FIRST + 16 * DAY)
    assert not old.exists()
    assert home.table("acme", "events").height == 16


def segments(home: Any) -> list[str]:
    return [Path(found.key).stem for found in open_store("staging").list("acme")]


def test_a_segment_goes_two_weeks_after_it_landed_and_never_before_it_did(
    home: Any, clock: Clock, new_load: Any, night: Callable[[datetime], Outcome]
) -> None:
    load = live(home, new_load, clock, 3)
    load.cut(FIRST + 3 * DAY)
    home.stage("acme", load, skip=3)
    unlanded = home.path / "staging" / "acme" / "node-1" / "000000000004.parquet"
    os.utime(unlanded, (FIRST.timestamp(),) * 2)
    landed = timedelta(seconds=2)
    night(FIRST + 14 * DAY + landed - timedelta(microseconds=1))
    assert len(segments(home)) == 4
    assert night(FIRST + 15 * DAY + landed).done["acme"]["segments_deleted"] == 2
    assert segments(home) == ["000000000003", "000000000004"]
    night(FIRST + 400 * DAY)
    assert segments(home) == ["000000000004"]
    assert land_tenant(home.db, "acme", "test").batches == 1, "what waited for a year lands"
    assert acts(home, "acme").count("retention.staging") == 2


def test_a_segment_that_waits_for_a_day_raises_one_alarm(
    home: Any, clock: Clock, new_load: Any, night: Callable[[datetime], Outcome]
) -> None:
    load = live(home, new_load, clock, 1)
    load.cut(FIRST + DAY)
    home.stage("acme", load, skip=1)
    waiting = home.path / "staging" / "acme" / "node-1" / "000000000002.parquet"
    os.utime(waiting, ((FIRST + DAY).timestamp(),) * 2)
    night(FIRST + 2 * DAY - timedelta(seconds=1))
    assert list_alarms(home.db, "acme") == []
    for moment in (FIRST + 2 * DAY, FIRST + 3 * DAY):
        assert night(moment).done["acme"]["segments_waiting"] == 1
    alarms = list_alarms(home.db, "acme")
    assert [(alarm.kind, alarm.subject, alarm.detail["segments"]) for alarm in alarms] == [("unlanded", "node-1", 1)]
    assert "alarm.raise" in acts(home, "acme")


def test_what_a_sleeper_writes_after_an_erasure_is_deleted_and_told(
    home: Any, new_load: Any, night: Callable[[datetime], Outcome]
) -> None:
    create_tenant(home.db, "acme", subscription="trial", trial_ends_at=FIRST)
    night(FIRST + 30 * DAY)
    load = new_load()
    load.do(FIRST)
    load.cut(FIRST)
    home.stage("acme", load)
    assert night(FIRST + 31 * DAY).done["acme"] == {"objects_came_back": 1}
    assert segments(home) == []
    assert not (home.path / "staging" / "acme").exists()
    assert [alarm.kind for alarm in list_alarms(home.db, "acme")] == ["erased_came_back"]
    assert acts(home, "acme")[-2:] == ["tenant.erase.late", "alarm.raise"]
    assert night(FIRST + 32 * DAY).done["acme"] == {"objects_came_back": 0}


def test_retention_runs_every_night_as_an_asset(home: Any, clock: Clock) -> None:
    create_tenant(home.db, "acme", subscription="active")
    assert (NIGHTLY.cron_schedule, NIGHTLY.default_status) == ("17 4 * * *", dg.DefaultScheduleStatus.RUNNING)
    result = dg.materialize([retention], resources={"platform": Platform()}, instance=home.instance)
    assert result.success
    counts = result.asset_materializations_for_node("retention")[0].metadata
    assert counts["tenants"].value == 1


def test_a_limit_that_would_lose_late_events_is_refused(home: Any) -> None:
    home.tenant("acme")
    for days in (0, 14, 40_000):
        with pytest.raises(ValueError, match="want 15 to"):
            set_keep_days(home.db, "acme", days)
    with pytest.raises(ValueError, match="there is no tenant"):
        set_keep_days(home.db, "zeta", 30)
