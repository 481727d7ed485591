"""Weeks: told once when their last day has been, from the days' own tables, and again when late data changes them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from kaimon.cli.main import build
from pipelines.summaries.period import Period, parse_period, week_of

MONDAY = date(2026, 3, 2)
RUNNER = CliRunner()


def beats(load: Any, day: date, **more: Any) -> Any:
    """A load that lives for ten minutes at nine and does something on each beat."""
    at = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
    for beat in range(21):
        load.do(at, **{"path": f"/srv/{day}/{beat}", **more})
        at += timedelta(seconds=30)
        load.cut(at, final=beat == 20)
    return load


def close(home: Any, *days: date) -> None:
    assert home.run("events").success
    for day in days:
        assert home.run(day=day).success


def weeks(home: Any, table: str) -> Any:
    frame = home.table("acme", table)
    return frame.filter(frame["period"] == "week")


def test_a_week_is_told_once_recomputed_by_sql_and_revised_by_late_data(home: Any, new_load: Any) -> None:
    home.tenant("acme")
    wednesday, sunday = MONDAY + timedelta(days=2), MONDAY + timedelta(days=6)
    home.stage("acme", beats(new_load(), MONDAY), node="n-1")
    cron = {"path": "/etc/cron.d/evil", "process": "bash", "exe": "/usr/bin/bash", "user": "root", "uid": 0}
    home.stage("acme", beats(new_load(agent_id="agt_00000000000000bb", hostname="db-1"), wednesday, **cron), node="n-2")
    home.stage("acme", beats(new_load(agent_id="agt_00000000000000cc", hostname="db-2"), sunday), node="n-3")
    days = [MONDAY + timedelta(days=number) for number in range(7)]
    close(home, *days[:6])
    assert weeks(home, "facts").is_empty(), "the week waits for its last day"
    close(home, sunday)
    assert weeks(home, "summaries")["revision"].to_list() == [1]
    told = json.loads(weeks(home, "facts")["document"][0])
    assert (told["period"], told["period_start"]) == ("week", "2026-03-02")
    assert told["values"]["events.total"]["value"] == 63
    assert [one["rule"] for one in told["matters"]] == ["cron_written"]
    assert told["matters"][0]["state"] == "opened", "it was new on Wednesday"
    assert told["values"]["matter_1.events"]["value"] == 21
    again = RUNNER.invoke(build(), ["facts", "--tenant", "acme", "--period", "2026-W10", "--json"])
    assert again.exit_code == 0, again.output
    assert all(value["same"] for value in json.loads(again.stdout)["values"].values())
    page = (home.path / "outbox" / "acme" / "week" / "2026-03-02-r1.html").read_text()
    assert "Week of Monday, 2 March 2026" in page

    close(home, wednesday)
    assert weeks(home, "summaries").height == 1, "nothing has changed"
    late = new_load(agent_id="agt_00000000000000dd", hostname="late-1")
    home.stage("acme", beats(late, wednesday), node="n-4")
    assert home.run("events").success
    range_ = ["--from", str(wednesday), "--to", str(wednesday)]
    asked = RUNNER.invoke(build(), ["backfill", "--tenant", "acme", *range_])
    assert "2026-W10    a week told: its facts would be computed anew" in asked.output
    assert weeks(home, "facts").height == 1
    done = RUNNER.invoke(build(), ["backfill", "--tenant", "acme", *range_, "--confirm", "acme"])
    assert (done.exit_code, "2026-W10    a week told: its facts are new" in done.output) == (0, True), done.output
    assert weeks(home, "facts").height == 2, "a backfill of a day makes its week's facts anew"
    again = RUNNER.invoke(build(), ["backfill", "--tenant", "acme", *range_, "--confirm", "acme", "--json"])
    assert json.loads(again.output.splitlines()[-1]) == {"week": "2026-W10", "new_facts": 0}
    assert weeks(home, "summaries").height == 1, "it is told when one of its days is closed"
    close(home, wednesday)
    summaries = weeks(home, "summaries").sort("revision")
    assert summaries["revision"].to_list() == [1, 2]
    assert ["File events", "63", "84"] in json.loads(summaries["document"][1])["changes"]
    assert (home.path / "outbox" / "acme" / "week" / "2026-03-02-r1.html").exists()
    assert "Changed since revision 1" in (home.path / "outbox" / "acme" / "week" / "2026-03-02-r2.html").read_text()


def test_a_week_goes_from_monday_to_sunday_and_has_two_names() -> None:
    for number in range(7):
        assert week_of(MONDAY + timedelta(days=number)) == Period("week", MONDAY)
    assert week_of(MONDAY).last == date(2026, 3, 8)
    assert week_of(MONDAY).before.start == date(2026, 2, 23)
    assert parse_period("2026-W10") == week_of(MONDAY)
    assert (week_of(MONDAY).name, Period("day", MONDAY).name) == ("2026-W10", "2026-03-02")
    assert parse_period("2026-03-04") == Period("day", date(2026, 3, 4))
    for wrong in ("2026-W54", "2026-3", "W", "yesterday"):
        with pytest.raises(ValueError, match="want a UTC day"):
            parse_period(wrong)
