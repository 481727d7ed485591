"""From an invitation to the last mail: what a reader gets, opens in a browser and presses, against the real portal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from kaimon.base.settings import MailSettings
from pipelines.summaries.post import post
from tenancy.inviting import invite
from tenancy.recipients import recipients
from tenancy.schedules import Schedule, set_schedule
from tests.dashboards.portal.conftest import Running, start
from tests.pipelines.alerts.conftest import mailbox, tls  # noqa: F401 - fixtures
from tests.pipelines.conftest import Home, Load
from tests.pipelines.test_day import DAY, HOUR, START

DAILY = Schedule("acme", True, False, "UTC", 5)
READER = "ciso@acme.example"


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    started = start(tmp_path, provider=False)
    monkeypatch.setenv("KAIMON_HOME", str(started.home))
    monkeypatch.setenv("KAIMON_LANDING_IDLE_S", "0")
    monkeypatch.setenv("KAIMON_REPORT_URL", f"{started.url}/report")
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """A page of a browser that trusts the portal's certificate and says what scripts and policies complain of."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no Chromium: script/bootstrap test installs it")
    api = pytest.importorskip("playwright.sync_api")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=flags)
        opened = chromium.new_page(ignore_https_errors=True)
        opened.complaints = []
        opened.on("console", lambda said: opened.complaints.append(said.text))
        opened.on("pageerror", lambda said: opened.complaints.append(str(said)))
        yield opened
        chromium.close()


@pytest.fixture
def told(running: Running) -> Iterator[Home]:
    """A tenant whose day is told."""
    home, load = Home(running.home), Load()
    load.do(START + 9 * HOUR, operation="create", path="/srv/new")
    load.cut(START + 9 * HOUR + timedelta(seconds=30), final=True)
    home.stage("acme", load)
    assert home.run("events").success
    assert home.run(day=DAY).success
    set_schedule(home.db, DAILY)
    yield home
    home.instance.dispose()
    home.db.close()


def send(home: Home, day: int = 5) -> int:
    """Post at noon of a day of that March; the portal, and so whoever invites, has the clock of today."""
    now, home.db.clock = home.db.clock, lambda: datetime(2026, 3, day, 12, tzinfo=UTC)
    try:
        return int(post(home.tables("acme"), DAILY, MailSettings())["sent"])
    finally:
        home.db.clock = now


def state(home: Home) -> str:
    (found,) = recipients(home.db, "acme")
    return str(found.state)


def link_in(mail: EmailMessage, path: str) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(next(line for line in body.get_content().splitlines() if urlsplit(line).path == path))


def test_a_reader_confirms_reads_and_ends_the_mails_by_what_stands_in_them(
    told: Home,
    running: Running,
    mailbox: Any,  # noqa: F811 - the fixture
    page: Any,
    tmp_path: Path,
) -> None:
    invite(told.db, "acme", READER, MailSettings())
    confirmation = link_in(mailbox.mails[-1], "/report/confirm")
    assert confirmation.startswith(running.url)
    assert send(told) == 0, "nobody has confirmed yet"

    page.goto(confirmation)
    assert state(told) == "pending", "a look is no consent: mail is scanned by programs that open its links"
    page.get_by_role("button").click()
    page.get_by_text("Confirmed").first.wait_for()
    assert state(told) == "confirmed"

    assert send(told) == 1
    (summary,) = (mail for mail in mailbox.mails if "2026-03-04" in mail["Subject"])
    html = summary.get_body(("html",)).get_content()
    saved = tmp_path / "mail.html"
    saved.write_text(html)
    page.goto(saved.as_uri())
    for words in ("Wednesday, 4 March 2026", "How much of it we know"):
        assert page.get_by_text(words, exact=True).is_visible()
    links = page.get_by_role("link").all()
    assert [urlsplit(link.get_attribute("href")).path for link in links] == ["/report/unsubscribe"]
    links[0].click()
    page.wait_for_url(f"{running.url}/report/unsubscribe*")
    assert state(told) == "confirmed", "nor is a look at the other link a wish to go"
    page.get_by_role("button").click()
    page.get_by_text("no more", exact=False).first.wait_for()
    assert state(told) == "unsubscribed"
    assert page.complaints == []

    sent = len(mailbox.mails)
    assert send(told, day=6) == 0
    assert len(mailbox.mails) == sent


def test_the_button_of_a_mail_program_ends_the_mails_by_the_mails_own_headers(
    told: Home,
    running: Running,
    mailbox: Any,  # noqa: F811 - the fixture
) -> None:
    invite(told.db, "acme", READER, MailSettings())
    with httpx.Client(verify=running.trust, trust_env=False, timeout=60) as program:
        assert program.post(link_in(mailbox.mails[-1], "/report/confirm")).status_code == 200
        assert send(told) == 1
        (summary,) = (mail for mail in mailbox.mails if "2026-03-04" in mail["Subject"])
        assert summary["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        link = summary["List-Unsubscribe"].strip("<>")
        key, _, value = summary["List-Unsubscribe-Post"].partition("=")
        assert program.post(link, data={key: value}).status_code == 200
    assert state(told) == "unsubscribed"
