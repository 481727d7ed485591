"""The `findings` table of a tenant, and what people say of what is in it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from pipelines.findings.day import make_findings
from tenancy.audit import read_chain
from tenancy.findings import close_finding, end_suppression, suppress, suppressions

DAY = date(2026, 3, 4)
START = datetime(2026, 3, 4, tzinfo=UTC)
BEAT = timedelta(seconds=30)
ONE = timedelta(days=1)


def days(load: Any, *deeds: bool, process: str = "vim") -> Any:
    """A load that beats once a day and on some of the days writes a sudoers file."""
    for number, deed in enumerate(deeds):
        at = START + number * ONE + timedelta(hours=9)
        if deed:
            load.do(at, path="/etc/sudoers.d/x", process=process, exe=f"/usr/bin/{process}", user="ann", uid=0)
        load.do(at, path="/srv/a", process="other")
        load.cut(at + BEAT, final=True)
    return load


def close_days(home: Any, tenant: str, number: int) -> None:
    for each in range(number):
        make_findings(home.tables(tenant), DAY + each * ONE)


def landed(home: Any, *loads: Any) -> str:
    """A tenant with these loads' events in its table."""
    tenant = str(home.tenant("acme"))
    for load in loads:
        home.tables(tenant).append("events", load.events)
    return tenant


def told(home: Any, tenant: str, day: date) -> list[tuple[str, str, int]]:
    rows = home.table(tenant, "findings").filter(pl.col("event_day") == day)
    return sorted(rows.select("rule", "state", "events").rows())


def test_a_day_told_again_is_the_same_and_late_data_changes_it(home: Any, load: Any, new_load: Any) -> None:
    tenant = landed(home, days(load, True, False))
    close_days(home, tenant, 2)
    before = home.table(tenant, "findings").sort("event_day", "finding_id")
    close_days(home, tenant, 2)
    assert home.table(tenant, "findings").sort("event_day", "finding_id").equals(before)
    other = new_load(agent_id="agt_00000000000000bb", hostname="db-1")
    home.tables(tenant).append("events", days(other, True).events)
    close_days(home, tenant, 1)
    assert told(home, tenant, DAY) == [("sudoers_written", "opened", 1)] * 2


def test_a_suppressed_finding_is_kept_and_not_reported_until_the_suppression_ends(home: Any, load: Any) -> None:
    days(load, True, True)
    load.do(START + timedelta(hours=20), path="/etc/sudoers.d/x", process="nano", exe="/usr/bin/nano")
    load.cut(START + timedelta(hours=20) + BEAT, final=True)
    tenant = landed(home, load)
    home.db.clock = lambda: START
    suppress(home.db, tenant, "sudoers_written", "Ann edits it daily.", DAY, exe="/usr/bin/vim")
    close_days(home, tenant, 2)
    assert told(home, tenant, DAY) == [("sudoers_written", "opened", 1), ("sudoers_written", "suppressed", 1)]
    assert told(home, tenant, DAY + ONE) == [("sudoers_written", "opened", 1), ("sudoers_written", "quiet", 0)]


@pytest.mark.parametrize(
    ("reason", "until", "narrow", "why"),
    [
        (" ", DAY, {"exe": "/usr/bin/vim"}, "reason"),
        ("x", DAY, {}, "which host"),
        ("x", DAY - ONE, {"user": "ann"}, "want a day"),
        ("x", DAY + 400 * ONE, {"user": "ann"}, "want a day"),
    ],
)
def test_a_suppression_needs_a_reason_an_end_and_a_bound(
    home: Any, reason: str, until: date, narrow: dict[str, str], why: str
) -> None:
    tenant = home.tenant("acme")
    home.db.clock = lambda: START
    with pytest.raises(ValueError, match=why):
        suppress(home.db, tenant, "cron_written", reason, until, **narrow)


def test_what_people_say_of_findings_is_on_the_audit_chain_without_their_words(home: Any) -> None:
    tenant = home.tenant("acme")
    home.db.clock = lambda: START
    made = suppress(home.db, tenant, "cron_written", "Ann Example said so", DAY, user="ann")
    assert suppressions(home.db, tenant, DAY) == [made]
    end_suppression(home.db, tenant, made.suppression_id)
    assert suppressions(home.db, tenant, DAY) == []
    assert [one.suppression_id for one in suppressions(home.db, tenant, DAY - ONE)] == [made.suppression_id]
    with pytest.raises(ValueError, match="no suppression"):
        end_suppression(home.db, tenant, made.suppression_id)
    close_finding(home.db, tenant, "fnd_1", "Ann Example did it")
    bodies = [record.body for record in read_chain(home.db, tenant)[1]]
    assert [record.content["act"] for record in read_chain(home.db, tenant)[1]][-3:] == [
        "finding.suppress",
        "finding.unsuppress",
        "finding.close",
    ]
    assert not any("Ann" in body for body in bodies)
    with pytest.raises(ValueError, match="no tenant"):
        close_finding(home.db, "nobody", "fnd_1", "x")
