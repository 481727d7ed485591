"""Summaries through a real mail server that wants STARTTLS: each once, to whom it belongs, with nothing of others."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pypdf
import pytest

from kaimon.base.settings import MailSettings
from pipelines.summaries import post as posting
from pipelines.summaries.post import hear, post
from tenancy.inviting import invite
from tenancy.mails import CLAIM, mails
from tenancy.recipients import confirm, recipients, unsubscribe
from tenancy.schedules import Schedule, set_schedule
from tenancy.wording import allow_model
from tests.aws import REGION, ROLE
from tests.dashboards.test_in_chromium import FLAGS
from tests.pipelines.alerts.conftest import mailbox, tls  # noqa: F401 - fixtures
from tests.pipelines.summaries.conftest import MODEL, converse  # noqa: F401 - a fixture
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
    box.asked = []
    if getattr(request, "param", "template") == "model":
        for name, value in ROLE.items():
            monkeypatch.setenv(name, value)
        endpoint = request.getfixturevalue("converse")
        monkeypatch.setenv("KAIMON_AWS_REGION", REGION)
        monkeypatch.setenv("KAIMON_AWS_BEDROCK_ENDPOINT_URL", endpoint.url)
        monkeypatch.setenv("KAIMON_SUMMARY_MODEL", MODEL)
        box.asked = endpoint.raw
    for number, (name, canary) in enumerate(CANARY.items()):
        tenant = home.tenant(name)
        if getattr(request, "param", "template") == "model":
            allow_model(home.db, name, allowed=True)
        load = new_load(
            hostname=f"{canary}-host",
            agent_id=f"agt_{number:016x}",
            load_id=f"0000000{number}-0000-4000-8000-000000000000",
        )
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


@pytest.mark.parametrize("told", ["template", "model"], indirect=True)
def test_each_tenants_summary_goes_once_to_who_confirmed_with_nothing_of_the_other(
    home: Any, told: Any, request: pytest.FixtureRequest
) -> None:
    model = "[model]" in request.node.name
    assert len(told.asked) == (2 if model else 0)
    assert not [word for word in (b"canary", b"acme", b"bolt") if word in b"".join(told.asked)]
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
            assert other not in form
            assert ("a language model" in " ".join(form.split())) is model
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


RUNNER = """
import sys
from datetime import datetime
from pipelines.posting import post_due
from pipelines.resources import Platform
from tenancy.database import open_database
db = open_database()
db.clock = lambda: datetime.fromisoformat(sys.argv[1])
print(post_due(Platform(), db, sys.argv[2]).done)
"""


def run_apart(home: Any, number: int) -> subprocess.Popen[str]:
    """The five-minutely run as a process of its own, at the test's time."""
    now = (home.db.clock.now + number * 2 * CLAIM).isoformat()
    return subprocess.Popen([sys.executable, "-c", RUNNER, now, f"run {number}"], stdout=subprocess.PIPE, text=True)


def test_a_mail_comes_once_though_two_processes_that_sent_it_were_killed(home: Any, told: Any) -> None:
    for number in range(2):
        told.hold = True
        told.held.clear()
        with run_apart(home, number) as run:
            assert told.held.wait(60)
            run.kill()
    told.hold = False
    with run_apart(home, 2) as run:
        assert "'acme': {'sent': 1, 'not_taken': 0}" in run.communicate(timeout=60)[0]
    assert sorted(told.recipients) == [["ciso@acme.example"], ["ciso@bolt.example"]]
    assert len({mail["Message-ID"] for mail in told.mails}) == 2


def test_an_address_that_is_unknown_there_is_mailed_no_more(home: Any, told: Any) -> None:
    told.unknown.add("ciso@acme.example")
    assert send(home, "acme") == {"sent": 0, "not_taken": 1}
    told.unknown.clear()
    home.db.clock.now += timedelta(days=1)
    assert send(home, "acme") == {"sent": 0, "not_taken": 0}
    assert [one.state for one in mails(home.db, "acme")] == ["failed"]
    (bounced,) = recipients(home.db, "acme", "bounced")
    assert bounced.address == "ciso@acme.example"


def test_an_address_that_bounced_is_mailed_again_once_its_reader_has_confirmed_anew(home: Any, told: Any) -> None:
    told.unknown.add("ciso@acme.example")
    send(home, "acme")
    told.unknown.clear()
    invite(home.db, "acme", "ciso@acme.example", MailSettings())
    assert send(home, "acme") == {"sent": 0, "not_taken": 0}
    link = next(line for line in told.mails[-1].get_content().splitlines() if line.startswith("https://"))
    assert confirm(home.db, parse_qs(urlsplit(link).query)["code"][0]) is not None
    assert send(home, "acme") == {"sent": 1, "not_taken": 0}


@pytest.mark.parametrize(
    ("where", "said", "state"),
    [("rcpt", "554 5.7.1 relay access denied", "waiting"), ("data", "554 5.6.0 not that", "failed"),
     ("rcpt", "452 4.2.2 full", "waiting")],
)  # fmt: skip
def test_a_refusal_that_is_not_the_addresss_fault_ends_no_address(
    home: Any, told: Any, where: str, said: str, state: str
) -> None:
    told.says[where] = said
    assert send(home, "acme") == {"sent": 0, "not_taken": 1}
    assert [one.state for one in mails(home.db, "acme")] == [state]
    assert len(recipients(home.db, "acme", "confirmed")) == 1
    told.says.clear()
    home.db.clock.now += timedelta(minutes=2)
    assert send(home, "acme") == {"sent": int(state == "waiting"), "not_taken": 0}


def test_a_queue_of_reports_that_cannot_be_read_keeps_nothing_from_going_out(home: Any, told: Any, aws: Any) -> None:
    nowhere = f"http://127.0.0.1:{aws.port}/123456789012/nowhere"
    assert hear(home.db, MailSettings(ses_events_queue=nowhere)) == 0
    assert send(home, "acme") == {"sent": 1, "not_taken": 0}


def test_who_ses_says_is_gone_is_mailed_no_more(home: Any, told: Any, aws: Any) -> None:
    (gone,) = recipients(home.db, "acme", "confirmed")
    queue = aws.client("sqs").create_queue(QueueName="reports-of-posting")["QueueUrl"]
    for recipient in (gone.recipient_id, "rcp_erased"):
        event = {"eventType": "Complaint", "mail": {"tags": {"kaimon-recipient": [recipient]}}}
        aws.client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(event))
    settings = MailSettings(ses_events_queue=queue)
    assert hear(home.db, settings) == 1
    assert hear(home.db, settings) == 0
    assert send(home, "acme") == {"sent": 0, "not_taken": 0}
    assert [one.recipient_id for one in recipients(home.db, "acme", "bounced")] == [gone.recipient_id]


@pytest.mark.browser
def test_a_mail_that_came_is_read_in_a_browser_and_its_links_and_paper_are_whole(
    home: Any, told: Any, tmp_path: Path
) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    send(home, "acme")
    (mail,) = told.mails
    html = mail.get_body(("html",)).get_content()
    file, picture = tmp_path / "mail.html", tmp_path / "mail.png"
    file.write_text(html, encoding="utf-8")
    flags = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]
    seen = subprocess.run(
        [*flags, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    links = re.findall(r'href="([^"]*)"', seen.stdout)
    assert [link.replace("&amp;", "&") for link in links] == [mail["List-Unsubscribe"].strip("<>")]
    assert not re.search(r"<(img|script|iframe|object|video|audio|form)\b|url\(|@import|src=", seen.stdout)
    assert "display:flex" not in html.replace(" ", "")
    subprocess.run([*flags, f"--screenshot={picture}", file.as_uri()], capture_output=True, timeout=120, check=True)
    assert picture.stat().st_size > 20_000
    paper = next(mail.iter_attachments())
    assert paper.get_filename() == "kaimon-acme-2026-03-04-r1.pdf"
    assert len(pypdf.PdfReader(io.BytesIO(paper.get_content())).pages) == 1


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
