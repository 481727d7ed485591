"""Summaries through a real mail server that wants STARTTLS: each once, to whom it belongs, with nothing of others."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pypdf
import pytest

from kaimon.base.settings import MailSettings
from pipelines.summaries import post as posting
from pipelines.summaries.post import invite, post
from tenancy.mails import CLAIM, mails
from tenancy.recipients import confirm, recipients, unsubscribe
from tenancy.schedules import Schedule, set_schedule
from tests.pipelines.alerts.conftest import mailbox, tls  # noqa: F401 - fixtures
from tests.pipelines.test_day import DAY, HOUR, START

CANARY = {"acme": "canaryofacme", "bolt": "canaryofbolt"}


class At:
    """The clock of the control database."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 5, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def told(home: Any, new_load: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two tenants whose day is told, each with a confirmed recipient and names of its own."""
    monkeypatch.setenv("KAIMON_REPORT_URL", "https://kaimon.example/report")
    box = request.getfixturevalue("mailbox")
    for number, (name, canary) in enumerate(CANARY.items()):
        tenant = home.tenant(name)
        load = new_load(agent_id=f"agt_{number:016x}", load_id=f"0000000{number}-0000-4000-8000-000000000000")
        load.do(START + 9 * HOUR, operation="create", path=f"/srv/{canary}", process=canary, user=canary)
        load.cut(START + 9 * HOUR + timedelta(seconds=30), final=True)
        home.stage(tenant, load, node=f"node-{number}")
    assert home.run("events").success
    assert home.run(day=DAY).success
    home.db.clock = At()
    for name in CANARY:
        set_schedule(home.db, Schedule(name, True, False, "America/New_York", 5))
        invite(home.db, name, f"ciso@{name}.example", MailSettings())
        link = next(line for line in box.mails[-1].get_content().splitlines() if line.startswith("https://"))
        assert confirm(home.db, parse_qs(urlsplit(link).query)["code"][0]) is not None
        invite(home.db, name, f"silent@{name}.example", MailSettings())
    box.mails.clear()
    box.recipients.clear()
    return box


def send(home: Any, tenant: str) -> dict[str, int]:
    schedule = Schedule(tenant, True, False, "America/New_York", 5)
    return dict(post(home.tables(tenant), schedule, MailSettings()))


def test_each_tenants_summary_goes_once_to_who_confirmed_with_nothing_of_the_other(home: Any, told: Any) -> None:
    for _ in range(2):
        for name in CANARY:
            send(home, name)
    assert told.recipients == [["ciso@acme.example"], ["ciso@bolt.example"]]
    for mail, own, other in zip(told.mails, CANARY, reversed(CANARY), strict=True):
        text, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
        pdf = next(mail.iter_attachments()).get_content()
        paper = "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages)
        for form in (text, html, paper):
            assert CANARY[own] in form
            assert CANARY[other] not in form
        assert CANARY[other].encode() not in mail.as_bytes()
        assert not [value for value in mail.values() if "canary" in value]
        assert mail["Subject"] == f"kaimon {own}: first day, 2026-03-04"


def test_a_mail_is_delivered_once_though_its_run_was_killed_twice(
    home: Any, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(posting, "send_mail", killed)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                send(home, "acme")
            assert send(home, "acme") == {"sent": 0, "not_taken": 0}  # its claim still stands
            home.db.clock.now += CLAIM
    assert send(home, "acme") == {"sent": 1, "not_taken": 0}
    home.db.clock.now += 2 * CLAIM
    assert send(home, "acme") == {"sent": 0, "not_taken": 0}
    assert len(told.mails) == 1
    assert [(one.state, one.attempts) for one in mails(home.db, "acme")] == [("sent", 3)]


def test_a_server_that_refuses_is_asked_again_later(home: Any, told: Any) -> None:
    told.refuse = True
    assert send(home, "acme") == {"sent": 0, "not_taken": 1}
    told.refuse = False
    assert send(home, "acme") == {"sent": 0, "not_taken": 0}
    home.db.clock.now += timedelta(minutes=2)
    assert send(home, "acme") == {"sent": 1, "not_taken": 0}


def test_the_link_in_a_mail_ends_it(home: Any, told: Any) -> None:
    send(home, "acme")
    mail = told.mails[0]
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = mail["List-Unsubscribe"].strip("<>")
    assert link.replace("&", "&amp;") in mail.get_body(("html",)).get_content()
    asked = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    assert unsubscribe(home.db, asked["recipient"], asked["token"])
    states = {one.recipient_id: one.state for one in recipients(home.db, "acme")}
    assert states.pop(asked["recipient"]) == "unsubscribed"
    assert list(states.values()) == ["pending"]


def test_nobody_is_mailed_without_a_way_out(home: Any, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAIMON_REPORT_URL")
    with pytest.raises(ValueError, match="KAIMON_REPORT_URL"):
        send(home, "acme")
    assert not told.mails


def test_a_summary_is_not_mailed_before_its_hour(home: Any, told: Any) -> None:
    home.db.clock.now = datetime(2026, 3, 5, 9, 59, tzinfo=UTC)
    assert send(home, "acme") == {"sent": 0, "not_taken": 0}
    home.db.clock.now = datetime(2026, 3, 5, 10, tzinfo=UTC)
    assert send(home, "acme") == {"sent": 1, "not_taken": 0}
    assert mails(home.db, "acme")[0].period_start == date(2026, 3, 4)
