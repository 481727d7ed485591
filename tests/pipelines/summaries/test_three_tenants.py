"""A week of three companies told: one at peace, one attacked on Wednesday, one that loses an agent on Thursday."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pypdf
import pytest
from typer.testing import CliRunner

from kaimon.cli.main import build
from tests.life import Company, Living, attacked, quiet, silenced

MONDAY = date(2026, 3, 2)
WEDNESDAY, THURSDAY = MONDAY + timedelta(days=2), MONDAY + timedelta(days=3)
WEEK = "2026-W10"
RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not what is looked at here: all of a page's statements go as one, on whatever else the machine is busy with.
    monkeypatch.setenv("KAIMON_QUERY_TIME_LIMIT_S", "300")


def companies() -> list[Company]:
    return [quiet(), attacked(WEDNESDAY), silenced(datetime(2026, 3, 5, 14, 20, tzinfo=UTC))]


def lived(home: Any, days: list[date], events_a_day: int) -> None:
    """Let all three live these days, and close each."""
    for company in companies():
        company.events_a_day = events_a_day
        home.tenant(company.tenant)
        life = Living(company)
        for day in days:
            life.live(home.db, day)
    assert home.run("events").success
    for day in days:
        assert home.run(day=day).success


def facts(home: Any, tenant: str, kind: str, start: date) -> dict[str, Any]:
    frame = home.table(tenant, "facts").sort("made_at")
    rows = frame.filter((frame["period"] == kind) & (frame["period_start"] == start))
    return dict(json.loads(rows["document"][-1]))


def text(home: Any, tenant: str, kind: str, start: date) -> str:
    return " ".join((home.path / "outbox" / tenant / kind / f"{start}-r1.txt").read_text().split())


def assert_recomputed(tenant: str, period: str) -> None:
    """Hold each number of a page against what its SQL gives over the tenant's own tables."""
    again = RUNNER.invoke(build(), ["facts", "--tenant", tenant, "--period", period, "--json"])
    assert again.exit_code == 0, again.output
    values = json.loads(again.stdout)["values"]
    assert len(values) > 50
    assert [name for name, value in values.items() if not value["same"]] == []


def assert_the_attack_is_told(home: Any) -> None:
    told = facts(home, "harbour", "day", WEDNESDAY)
    assert told["status"] == "worse"
    assert [(one["rule"], one["severity"]) for one in told["matters"]] == [
        ("mass_rename", "critical"), ("mass_delete", "high"), ("logs_deleted", "high")
    ]  # fmt: skip
    assert told["values"]["matter_1.events"]["value"] == 900
    page = text(home, "harbour", "day", WEDNESDAY)
    assert "Seen on “files-1”, 900 times from 02:41 UTC on; by “svc-share” with “/usr/bin/python3.11”." in page
    assert "Seen on “files-1”, once, at 02:42 UTC; by “root” with “/usr/bin/bash”." in page
    assert "Cut the host off the network now" in page


def assert_the_silence_is_told(home: Any) -> None:
    told = facts(home, "foundry", "day", THURSDAY)
    assert told["status"] == "worse"
    assert [one["rule"] for one in told["matters"]] == ["agent_silent"]
    assert told["values"]["hours.unknown"]["value"] == 10
    page = text(home, "foundry", "day", THURSDAY)
    assert "for 10 host-hours nobody can tell what happened" in page
    assert "1 critical or high finding is open." in page
    assert "(1 fell silent)" in page
    assert "Of the events that the hosts told of and were to keep, 100%" in page, "no share of all that happened"
    assert "what happened in them is in no number here" in page
    assert "Seen on “app-2”, for 10 host-hours from 14:00 UTC on." in page


def assert_peace_is_told(home: Any, day: date) -> None:
    told = facts(home, "meadow", "day", day)
    assert (told["status"], told["matters"]) == ("stable", [])
    page = text(home, "meadow", "day", day)
    assert "3 of 3 monitored hosts reported" in page
    assert "Nothing in these numbers asks for a decision." in page


def assert_each_is_one_sheet(home: Any) -> None:
    papers = sorted((home.path / "outbox").rglob("*.pdf"))
    assert papers
    assert {paper.name: len(pypdf.PdfReader(paper).pages) for paper in papers} == {paper.name: 1 for paper in papers}


def test_peace_an_attack_and_a_silence_are_each_told_as_what_they_are(home: Any) -> None:
    days = [WEDNESDAY, THURSDAY]
    lived(home, days, events_a_day=200)
    assert_the_attack_is_told(home)
    assert_the_silence_is_told(home)
    assert_peace_is_told(home, THURSDAY)
    assert_each_is_one_sheet(home)
    for company in companies():
        for day in days:
            assert_recomputed(company.tenant, day.isoformat())


@pytest.mark.timeout(3600)
def test_a_week_of_three_companies_is_told_and_every_number_of_it_recomputed(
    home: Any, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    if not pytestconfig.getoption("--full"):
        pytest.skip("two minutes: with --full")
    days = [MONDAY + timedelta(days=number) for number in range(7)]
    lived(home, days, events_a_day=1500)
    assert_the_attack_is_told(home)
    assert_the_silence_is_told(home)
    assert_peace_is_told(home, THURSDAY)
    assert_each_is_one_sheet(home)
    for company in companies():
        for day in days:
            assert_recomputed(company.tenant, day.isoformat())
        assert_recomputed(company.tenant, WEEK)
    weeks = {company.tenant: facts(home, company.tenant, "week", MONDAY) for company in companies()}
    assert {tenant: told["status"] for tenant, told in weeks.items()} == {
        "meadow": "first", "harbour": "worse", "foundry": "worse"
    }  # fmt: skip
    assert [one["rule"] for one in weeks["harbour"]["matters"]] == ["mass_rename", "mass_delete", "logs_deleted"]
    assert "900 times from 4 March, 02:41 UTC on" in text(home, "harbour", "week", MONDAY)
    assert weeks["foundry"]["values"]["hours.unknown"]["value"] == 10 + 3 * 24
    assert "First week" in (home.path / "outbox" / "meadow" / "week" / f"{MONDAY}-r1.html").read_text()
    print("pages:", tmp_path / "outbox")
