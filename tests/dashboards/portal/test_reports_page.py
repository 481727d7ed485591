"""The archive of summaries in the portal: what was told, on which numbers, and to whom it goes; nothing of others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tenancy.recipients import add_recipient, recipients
from tenancy.schedules import schedules
from tests.pipelines.alerts.conftest import mailbox, tls  # noqa: F401 - fixtures
from tests.pipelines.conftest import Home, Load

DAY = date(2026, 3, 4)
ASKED = f"period=day&start={DAY}&revision=1"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def told(portal: Any) -> Iterator[Home]:
    """A day of each tenant, told by the real assets into the portal's own home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAIMON_HOME", str(portal.home))
        patch.setenv("KAIMON_LANDING_IDLE_S", "0")
        home = Home(portal.home)
        at = datetime(2026, 3, 4, 9, tzinfo=UTC)
        for number, (tenant, process) in enumerate((("acme", HOSTILE), ("bolt", "canaryofbolt"))):
            load = Load(agent_id=f"agt_{number:016x}")
            load.do(at, process=process)
            load.cut(at + timedelta(seconds=30), final=True)
            home.stage(tenant, load, node=f"node-{number}")
        assert home.run("events").success
        assert home.run(day=DAY).success
        yield home
        home.instance.dispose()
        home.db.close()


@pytest.fixture(scope="module")
def admin(portal: Any) -> Any:
    return portal.member("acme", "reports-admin@acme.example", "admin")


def test_what_was_told_is_listed_with_its_numbers_and_in_each_form(told: Home, admin: Any) -> None:
    page = admin.get("/t/acme/reports").text
    assert "Wednesday, 4 March 2026" in page
    assert "1 of 1 monitored host reported 1 file event" in page
    assert "canaryofbolt" not in page
    numbers = admin.get(f"/t/acme/reports/facts?{ASKED}").text
    assert "SELECT coalesce(sum(events), 0) AS value FROM activity" in numbers
    assert "canaryofbolt" not in numbers
    html = admin.get(f"/t/acme/reports/file?{ASKED}")
    policy = html.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "unsafe" not in policy
    assert "'sha256-" in policy
    assert "<script" not in html.text
    assert " style=" not in html.text
    pdf = admin.get(f"/t/acme/reports/file?{ASKED}&form=pdf")
    assert pdf.headers["content-disposition"] == f'attachment; filename="kaimon-acme-day-{DAY}-r1.pdf"'
    assert pdf.content.startswith(b"%PDF")
    assert "kaimon · daily file activity · acme" in admin.get(f"/t/acme/reports/file?{ASKED}&form=txt").text


@pytest.mark.parametrize(
    "asked",
    [
        "", "period=day", f"period=day&start={DAY}&revision=2", f"period=month&start={DAY}&revision=1",
        f"period=../bolt/day&start={DAY}&revision=1", f"{ASKED}&form=../../x", "period=day&start=2026-03-05&revision=1",
    ],
)  # fmt: skip
def test_what_was_not_told_is_not_found(told: Home, admin: Any, asked: str) -> None:
    assert admin.get(f"/t/acme/reports/file?{asked}").status_code == 404
    if "form" not in asked:
        assert admin.get(f"/t/acme/reports/facts?{asked}").status_code == 404


def test_what_is_known_of_each_hour_is_shown_and_said(told: Home, admin: Any) -> None:
    page = admin.get(f"/t/acme/quality?day={DAY}").text
    assert page.count('<td class="complete">') == 1
    assert page.count('<span class="hear">not monitored</span>') == 23
    assert "<dt>Batches landed</dt><dd>1</dd>" in page
    assert f'<a href="?day={DAY}">' not in page, "two weeks back from now"
    assert "canaryofbolt" not in page
    assert "No data has landed in these two weeks." in page
    empty = admin.get("/t/acme/quality?day=2026-03-05").text
    assert "Nothing is computed of this day yet" in empty
    assert admin.get("/t/acme/quality?day=yesterday").status_code == 400


def test_an_admin_says_when_they_are_mailed_and_to_whom_no_more(told: Home, portal: Any, admin: Any) -> None:
    person, _ = add_recipient(portal.db, "acme", "ciso@acme.example")
    other, _ = add_recipient(portal.db, "bolt", "ciso@bolt.example")
    assert admin.post("/t/acme/reports/schedule", daily="on", time_zone="Europe/Paris", hour="6").status_code == 303
    (kept,) = [one for one in schedules(portal.db) if one.tenant_id == "acme"]
    assert (kept.daily, kept.weekly, kept.time_zone, kept.hour) == (True, False, "Europe/Paris", 6)
    page = admin.get("/t/acme/reports").text
    assert "Daily, from 06:00 on by the clock of Europe/Paris." in page
    assert "ciso@acme.example" in page
    assert "ciso@bolt.example" not in page
    assert admin.post("/t/acme/reports/schedule", daily="on", time_zone="Mars/Olympus", hour="6").status_code == 400
    assert admin.post("/t/acme/reports/remove", recipient=other.recipient_id).status_code == 404
    assert admin.post("/t/acme/reports/remove", recipient=person.recipient_id).status_code == 303
    states = {one.recipient_id: one.state for tenant in ("acme", "bolt") for one in recipients(portal.db, tenant)}
    assert (states[person.recipient_id], states[other.recipient_id]) == ("removed", "pending")


def test_an_admin_invites_a_recipient_who_is_mailed_a_link_and_no_address_can_be_flooded(
    mailbox: Any,  # noqa: F811 - the fixture
    start_portal: Any,
) -> None:
    running = start_portal(provider=True, KAIMON_REPORT_URL="https://kaimon.example/report")
    ada = running.member("acme", "ada@acme.example", "admin")
    max_ = running.member("acme", "max@acme.example", "member")
    assert max_.post("/t/acme/reports/add", address="ciso@acme.example").status_code == 403
    assert ada.post("/t/acme/reports/add", address="not an address").status_code == 400
    assert not mailbox.mails
    mailbox.refuse = True
    assert ada.post("/t/acme/reports/add", address="ciso@acme.example").status_code == 503
    assert [one.state for one in recipients(running.db, "acme")] == ["removed"]
    mailbox.refuse = False
    assert ada.post("/t/acme/reports/add", address="ciso@acme.example").status_code == 303
    (mail,) = mailbox.mails
    assert mail["To"] == "ciso@acme.example"
    assert "https://kaimon.example/report/confirm?code=" in mail.get_content()
    assert "asked to confirm" in ada.get("/t/acme/reports").text
    for allowed in (True, False):
        (pending,) = recipients(running.db, "acme", "pending")
        assert ada.post("/t/acme/reports/remove", recipient=pending.recipient_id).status_code == 303
        again = ada.post("/t/acme/reports/add", address="CISO@acme.example")
        assert again.status_code == (303 if allowed else 400)
    assert "try again tomorrow" in again.text
    assert len(mailbox.mails) == 2


def test_without_mail_an_admin_is_told_so(admin: Any, portal: Any) -> None:
    answer = admin.post("/t/acme/reports/add", address="ciso@acme.example")
    assert answer.status_code == 503
    assert "not set up for mail" in answer.text
