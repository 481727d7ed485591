"""The pages of a tenant that has data: each answers, and says what the tables hold."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import zstandard

from dashboards.portal.hosts import Health, health_of
from dashboards.portal.pages import ROUTES
from lake.settings import LakeSettings
from tenancy.days import mark_open, set_checked
from tenancy.enrollment import create_token, enroll
from tenancy.recipients import add_recipient
from tenancy.schedules import Schedule, set_schedule
from tenancy.tenants import create_tenant
from tests.dashboards.portal import filled

HOST: dict[str, Any] = {"os": "debian 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None}


@pytest.fixture(scope="module")
def analyst(portal: Any) -> Any:
    """An Admin of a tenant that has a day of data."""
    create_tenant(portal.db, "corp")
    filled.fill(LakeSettings(home=portal.home), "corp")
    return portal.member("corp", "ana@corp.example", "admin")


@pytest.mark.parametrize("route", [one for one in ROUTES if one.method == "GET"], ids=lambda route: route.path or "/")
def test_every_page_answers_about_a_day_that_has_data(analyst: Any, route: Any) -> None:
    answer = analyst.get(f"/t/corp/{route.path}?day={filled.DAY}")
    assert answer.status_code in {200, 404}, answer.text
    if answer.status_code == 404:
        of_one = {"activity/event", "tokens/revoke", "keys/revoke", "reports/facts", "reports/file", "security/agent"}
        assert route.path in of_one


def test_the_overview_says_how_many_events_the_hours_hold(analyst: Any) -> None:
    page = analyst.get(f"/t/corp/?day={filled.DAY}").text
    assert re.search(r"<dt>File events</dt><dd>(<a [^>]+>)?2,100", page)
    assert "<svg" in page


def test_the_overview_says_what_is_open_and_what_changed(analyst: Any, portal: Any) -> None:
    lake, before = LakeSettings(home=portal.home), filled.DAY - timedelta(days=1)
    page = analyst.get(f"/t/corp/?day={filled.DAY}").text
    assert "<dt>Open findings</dt><dd>—" in page, "of a day that is not closed nobody knows"
    hour = {"hour": filled.MIDNIGHT - timedelta(hours=1), "captured": 2_000, "state": "complete"}
    filled.write("completeness", before, [hour], lake, "corp")
    grave = [("low", "opened"), ("critical", "opened"), ("high", "ongoing"), ("medium", "quiet"), ("high", "closed")]
    findings = [
        {"finding_id": f"fnd_{number}", "severity": severity, "title": f"title {number}", "state": state}
        for number, (severity, state) in enumerate(grave)
    ]
    filled.write("findings", filled.DAY, findings, lake, "corp")
    touches = [{"process": f"tool-{number}", "path": "/etc/shadow", "hostname": "host-0"} for number in range(7)]
    filled.write("new_behaviour", filled.DAY, touches, lake, "corp")
    mark_open(portal.db, "corp", [before, filled.DAY])
    set_checked(portal.db, "corp", before, passed=True, detail={}, seen_version=1)
    page = analyst.get(f"/t/corp/?day={filled.DAY}").text
    assert f"<dt>Open findings <small>at the end of {before}</small></dt>" in page
    set_checked(portal.db, "corp", filled.DAY, passed=True, detail={}, seen_version=1)
    page = analyst.get(f"/t/corp/?day={filled.DAY}").text
    assert re.search(r"<dt>Open findings</dt><dd><a [^>]+>4<", page), "one is closed"
    assert "100 more file events</a> than the day before" in page
    assert re.findall(r">(title \d)<", page) == ["title 1", "title 0"], "what the day opened, the gravest first"
    assert re.findall(r"<bdi>(tool-\d)</bdi>", page) == [f"tool-{number}" for number in range(5)]
    assert "And 2 more" in page


def test_activity_leads_to_a_row_its_path_its_process_and_files_of_the_same(analyst: Any, stranger: Any) -> None:
    page = analyst.get(f"/t/corp/activity?day={filled.DAY}&path=/srv/").text
    assert "<svg" in page
    assert 'href="?from=2026-03-04&amp;day=2026-03-04&amp;since=12%3A00&amp;until=13%3A00&amp;path=%2Fsrv%2F"' in page
    address = re.search(r'href="(/t/corp/activity/event\?id=[^"]+)"', page)
    assert address is not None
    event = analyst.get(address[1])
    assert event.status_code == 200
    for field in ("monotonic_ns", "target_path", "agent_id"):
        assert f"<code>{field}</code>" in event.text
    assert "Complete: nothing is missing." in event.text
    for words in ("Same path", "Same process", "Same host"):
        link = re.search(rf'href="([^"]+)">{words}<', event.text)
        assert link is not None
        assert "<tbody>" in analyst.get(html.unescape(link[1])).text
    assert stranger.get(address[1]).status_code == 404
    assert stranger.get(address[1].replace("/t/corp/", "/t/bolt/")).status_code == 404
    asked = f"day={filled.DAY}&path=/srv/"
    table = pq.read_table(io.BytesIO(analyst.get(f"/t/corp/activity.parquet?{asked}").content))
    text = list(csv.reader(io.StringIO(analyst.get(f"/t/corp/activity.csv?{asked}").text)))
    assert table.num_rows == len(text) - 1 == 1400
    assert [row[3] for row in text[1:]] == table["path"].to_pylist()


def test_a_file_that_was_taken_is_in_the_access_log_under_who_took_it(portal: Any, analyst: Any) -> None:
    analyst.get(f"/t/corp/activity.parquet?day={filled.DAY}")
    deadline = time.monotonic() + 60
    while True:
        found = [json.loads(line) for line in records(portal.home)]
        mine = {one["what"]: one for one in found if one.get("tenant") == "corp" and one["what"] in TAKEN}
        if set(mine) == TAKEN:
            break
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert {one["who"][:4] for one in mine.values()} == {"prs_"}


TAKEN = {"portal GET /t/…/activity.parquet", "lake.query"}


def records(home: Path) -> list[bytes]:
    """What the access log holds."""
    objects = sorted((home / "audit" / "access").rglob("*.zst"))
    return [line for one in objects for line in zstandard.decompress(one.read_bytes()).splitlines()]


@pytest.mark.parametrize(
    "asked", ["since=25:00", "day=x", "pid=x", "day=2026-03-04&from=2026-01-01", "user=%00", "after=x"]
)
def test_what_is_no_question_is_refused_with_its_reason(analyst: Any, asked: str) -> None:
    for path in ("activity", "activity.csv", "activity.parquet"):
        if path == "activity" or "after" not in asked:
            assert analyst.get(f"/t/corp/{path}?{asked}").status_code == 400


def enrolled(portal: Any, tenant: str, name: str) -> str:
    """Enroll a host, as its agent does; give its agent's id."""
    _, secret = create_token(portal.db, tenant, label="a label")
    return enroll(portal.db, secret, name, HOST, "boot", "1.0").agent_id


def test_every_number_of_the_overview_leads_to_what_is_behind_it(analyst: Any) -> None:
    page = analyst.get(f"/t/corp/?day={filled.DAY}").text
    figures = re.findall(r"<dt>([^<]+)</dt><dd>(.*?)</dd>", page)
    assert len(figures) == 5
    for name, shown in figures:
        link = re.fullmatch(r'<a href="([^"]+)">[\d,]+</a>', shown)
        assert link is not None or shown == "—", name
        if link is not None:
            assert analyst.get(html.unescape(link[1])).status_code == 200
    bars = re.findall(r'<a href="(/t/corp/activity\?[^"]+)" aria-label="(\d\d:\d\d): ([\d,]+) events', page)
    assert len(bars) == 24
    shown = analyst.get(html.unescape(bars[12][0])).text
    assert bars[12][1:] == ("12:00", "120")
    assert "120 events" in shown


def test_a_new_host_is_waited_for_until_its_first_event_has_landed(portal: Any, analyst: Any, stranger: Any) -> None:
    now = datetime.now(UTC)
    heard = f"/t/corp/hosts/heard?opened={int(now.timestamp())}"
    assert "No host has enrolled" in analyst.get(heard).text
    agent = enrolled(portal, "corp", "new-1")
    page = analyst.get(heard).text
    assert "no event of it has landed yet" in page
    assert "data-done" not in page
    told = {"agent_id": agent, "hostname": "new-1", "outcome": "landed", "received_at": now, "received_day": now.date()}
    sent = {"sent_at": now - timedelta(seconds=9), "landed_at": now, "first_time": now - timedelta(seconds=20)}
    lake = LakeSettings(home=portal.home)
    filled.write("batches", now.date(), [told | sent | {"rows": 0}], lake, "corp")
    assert "data-done" not in analyst.get(heard).text
    filled.write("batches", now.date(), [told | sent | {"rows": 3, "batch_seq": 2}], lake, "corp")
    page = analyst.get(heard).text
    assert "first event received" in page
    assert "data-done" in page
    assert "new-1" not in stranger.get(heard.replace("corp", "bolt")).text
    hosts = analyst.get("/t/corp/hosts").text
    assert '<td class="n">9 s</td>' in hosts
    assert "a label" in hosts


@pytest.mark.parametrize("opened", ["x", "0", "99999999999999999999", "-1"])
def test_a_moment_that_no_page_was_opened_at_is_refused(analyst: Any, opened: str) -> None:
    assert analyst.get(f"/t/corp/hosts/heard?opened={opened}").status_code == 400


def test_losses_of_a_host_are_those_of_its_last_24_hours(tmp_path: Path) -> None:
    lake, now = LakeSettings(home=tmp_path), datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
    hours = [
        {"hour": now.replace(minute=0) - timedelta(hours=back), "agent_id": "agt_0", "lost_ring": 1, "state": state}
        for back, state in ((0, "complete"), (20, "unknown"), (23, "unknown"), (25, "unknown"))
    ]
    filled.write("completeness", filled.DAY, hours[:1], lake, "acme")
    filled.write("completeness", filled.DAY - timedelta(days=1), hours[1:], lake, "acme")
    scope: Any = type("Scope", (), {"tenant_id": "acme"})
    assert health_of(scope, now, lake) == {"agt_0": Health(None, 3, 0, 2)}


def test_the_api_tells_each_hour_of_each_host_and_how_summaries_are_mailed(portal: Any, analyst: Any) -> None:
    client = portal.api("corp", "read:*")
    hosts = client.get(f"/quality?day={filled.DAY}").json()["hosts"]
    assert hosts[0]["hours"] == ["complete"] * 13 + ["unknown"] + ["complete"] * 10
    assert hosts[1]["hours"] == ["not_monitored"] * 12 + ["complete"] * 12
    histogram = client.get(f"/activity/histogram?day={filled.DAY}").json()
    assert (histogram["events"], histogram["hours"][13]["unknown"]) == (2100, 1)
    assert client.get("/mailing").json() == {"schedule": None, "recipients": []}
    set_schedule(portal.db, Schedule("corp", daily=True, weekly=False, time_zone="Europe/Vienna", hour=6))
    add_recipient(portal.db, "corp", "eve@corp.example")
    told = client.get("/mailing").json()
    assert told["schedule"] == {"daily": True, "weekly": False, "time_zone": "Europe/Vienna", "hour": 6}
    assert [(one["address"], one["state"]) for one in told["recipients"]] == [("eve@corp.example", "pending")]
