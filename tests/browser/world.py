"""A portal whose tenant has something on every page, headless Chromium before it, and the list of all its pages."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from dashboards.portal import receipts
from dashboards.portal.mailed_links import PAGES as MAILED
from dashboards.portal.pages import ROUTES
from dashboards.reports.html import render_html
from dashboards.reports.page import Block, Figure, HourBar, Page, Part, Ranked, Ranking
from lake.settings import LakeSettings
from tenancy.api_keys import create_api_key
from tenancy.enrollment import create_token, enroll
from tenancy.erasure_requests import request_erasure
from tenancy.members import invite
from tenancy.recipients import add_recipient
from tenancy.schedules import Schedule, set_schedule
from tenancy.tenants import create_tenant
from tests.dashboards.portal import filled
from tests.dashboards.portal.conftest import Running, start
from tests.dashboards.portal.releases import make_release
from tests.e2e.portal import SLOW_MS, browser_flags, quiet

AXE: Final = Path(__file__).resolve().parents[1] / "web" / "node_modules" / "axe-core" / "axe.min.js"
WIDE: Final = {"width": 1280, "height": 800}
PHONE: Final = {"width": 390, "height": 844}
ADMIN: Final = "ada@acme.example"
EMPTY: Final = "bolt"
"""A tenant that has nothing but its Admin."""
LEAVING: Final = "coil"
"""A tenant whose erasure was asked for."""
HOST: Final[dict[str, Any]] = {"os": "debian 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None}
CALM: Final = ("web-1.acme.example", "web-2.acme.example", "db-1.acme.example", "vim", "/etc/passwd", "/srv/app/config")
"""Names such as hosts, processes and files have."""


def missing() -> str | None:
    """Return why none of this can run here, None if it can."""
    return None if shutil.which("chromium") else "needs chromium"


@dataclass
class World:
    """All of it, up; `ids` are what pages about one thing are asked with, by tenant, `receipt` is an erasure's page."""

    running: Running
    browser: Any
    cookie: str
    ids: dict[str, dict[str, str]] = field(default_factory=dict)
    contexts: list[Any] = field(default_factory=list)
    receipt: str = ""

    def context(self, viewport: dict[str, int] | None = None, **options: Any) -> Any:
        """Return a browser window of the Admin's, logged in."""
        made = self.browser.new_context(viewport=viewport or WIDE, **options)
        made.set_default_timeout(SLOW_MS)
        made.add_cookies([{"name": "__Host-kaimon", "value": self.cookie, "url": self.running.url, "secure": True}])
        self.contexts.append(made)
        return made

    def leave(self) -> None:
        """Close every window."""
        while self.contexts:
            self.contexts.pop().close()

    def addresses(self, tenant: str) -> dict[str, str]:
        """Return every page of a tenant that has something: its name and its address, from the table of routes.

        A route that is asked with an id stands in `ids`; a new one that needs more than a day is refused by
        `test_every_page_is_looked_at`, and whoever made it tells here what to ask it with.
        """
        found = {}
        for route in ROUTES:
            if route.method != "GET":
                continue
            asked = self.ids[tenant].get(route.path, "" if tenant == EMPTY else f"day={filled.DAY}")
            if asked is not NOTHING:
                found[route.path or "overview"] = f"{self.running.url}/t/{tenant}/{route.path}?{asked}".rstrip("?")
        return found

    def others(self) -> dict[str, str]:
        """Return the pages that are no tenant's; `welcome` is for who is not logged in."""
        url = self.running.url
        mailed = {path.removeprefix("/"): f"{url}{path}" for path in MAILED}
        own = {"tenants": f"{url}/", "problem": f"{url}/t/acme/nowhere", "erasure": f"{url}{self.receipt}"}
        leaving = {f"leaving {path}": f"{url}/t/{LEAVING}/{path}" for path in ("retention", "hosts")}
        return {**own, **leaving, **mailed, "welcome": f"{url}/"}

    def visit(self, context: Any, addresses: dict[str, str] | None = None) -> Iterator[tuple[str, Any]]:
        """Open one page after the other in a window, all of them unless some are named; give each once it is there."""
        page = context.new_page()
        for name, address in (addresses or self.every()).items():
            if name == "welcome":
                context.clear_cookies()
            answer = page.goto(address, wait_until="load")
            assert answer.status == (404 if name == "problem" else 200), (name, answer.status, page.content())
            yield name, page

    def every(self) -> dict[str, str]:
        """Return all pages: filled, empty, and those that are no tenant's; not `NO_PAGES`."""
        empty = {f"empty {name}": address for name, address in self.addresses(EMPTY).items()}
        all_ = self.addresses("acme") | empty | self.others()
        return {name: address for name, address in all_.items() if name.removeprefix("empty ") not in NO_PAGES}


NO_PAGES: Final = frozenset({"activity.csv", "activity.parquet", "security/agent", "hosts/heard"})
"""Files, which a browser keeps, and a part of the page Hosts."""
NOTHING: Final = "nothing"
"""Instead of an id: the tenant has none of these."""
_OF_ONE: Final = ("activity/event", "tokens/revoke", "keys/revoke", "reports/facts", "reports/file")


@contextmanager
def running(folder: Path) -> Iterator[World]:
    """Start the portal and the browser; the tenant `acme` has something on every page."""
    from playwright.sync_api import sync_playwright

    portal = start(
        folder,
        KAIMON_INGEST_URL="https://ingest.acme.example:8443",
        KAIMON_REPORT_URL="https://x.example",
        KAIMON_PORTAL_AGENT_FOLDER=str(make_release(folder / "release")),
    )
    try:
        create_tenant(portal.db, LEAVING)
        for tenant in ("acme", EMPTY, LEAVING):
            invite(portal.db, tenant, ADMIN, "admin")
        person = portal.browser()
        assert person.log_in(ADMIN).status_code == 303
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=browser_flags(portal.home), env=quiet()
            )
            world = World(portal, browser, person.client.cookies["__Host-kaimon"])
            world.ids[EMPTY] = dict.fromkeys(_OF_ONE, NOTHING)
            furnish(world, "acme", list(CALM))
            world.receipt = receipts.address(request_erasure(portal.db, LEAVING)[1])
            try:
                yield world
            finally:
                world.leave()
                browser.close()
    finally:
        portal.close()


def furnish(world: World, tenant: str, names: list[str]) -> None:
    """Give a tenant something on every page; all that others may choose is named by `names`, in turn."""
    portal, lake = world.running, LakeSettings(home=world.running.home)
    filled.fill(lake, tenant, names, hostnames=names[:2], processes=names, users=names)
    token, secret = create_token(portal.db, tenant, names[0], max_uses=100)
    agents = [enroll(portal.db, secret, name, HOST, "boot", "1.0").agent_id for name in names[:3]]
    now = datetime.now(UTC)
    midnight, day = filled.MIDNIGHT, filled.DAY
    hosts = [
        {"agent_id": agent, "hostname": name, "agent_version": "0.1.0", "capture_mode": "sys_exit",
         "last_seen": midnight, "blind_spots": ["exec_opens", "io_uring_results"]}
        for agent, name in zip(agents, names, strict=False)
    ]  # fmt: skip
    filled.write("hosts", day, hosts, lake, tenant)
    sent = [
        {"agent_id": agents[0], "hostname": names[0], "outcome": outcome, "received_at": at, "received_day": at.date(),
         "sent_at": at - timedelta(seconds=4), "landed_at": at, "rows": 60, "rejected": 2, "batch_seq": number,
         "first_time": at, "last_time": at}
        for number, (at, outcome) in enumerate([(midnight, "landed"), (midnight, "duplicate"), (now, "landed")])
    ]  # fmt: skip
    filled.write("batches", day, sent, lake, tenant)
    lines = [{"code": "out_of_window", "detail": "late", "raw": names[0], "line": number} for number in range(3)]
    filled.write("quarantine", day, lines, lake, tenant)
    _find(lake, tenant, names)
    _tell(portal.home, lake, tenant, names)
    for state in ("one", "two"):
        add_recipient(portal.db, tenant, f"{state}@acme.example")
    set_schedule(portal.db, Schedule(tenant, daily=True, weekly=True, time_zone="Europe/Berlin", hour=7))
    invite(portal.db, tenant, "guest@acme.example", "member")
    key, _ = create_api_key(portal.db, tenant, ["read:*"], names[0])
    page = html.unescape(portal_page(world, f"/t/{tenant}/activity?day={day}"))
    event = re.search(r"activity/event\?id=([^\"]+)\"", page)
    assert event is not None
    asked = f"period=day&start={day}&revision=1"
    values = (f"id={event[1]}", f"token={token.token_id}", f"key={key.key_id}", asked, asked)
    world.ids[tenant] = dict(zip(_OF_ONE, values, strict=True))


def portal_page(world: World, path: str) -> str:
    """Return a page's HTML as the Admin gets it."""
    person = world.running.browser()
    person.client.cookies.set("__Host-kaimon", world.cookie)
    return str(person.get(path).text)


def _find(lake: LakeSettings, tenant: str, names: list[str]) -> None:
    rules = (("critical", "A shadow file was read"), ("high", "A cron job was added"), ("low", "A shell history went"))
    rows = [
        {"severity": severity, "title": title, "attack_id": "T1053.003", "state": "opened", "opened_day": filled.DAY,
         "hostname": names[number % len(names)], "process": names[(number + 1) % len(names)],
         "path": names[(number + 2) % len(names)], "finding_id": f"fnd_{number}"}
        for number, (severity, title) in enumerate(rules * 3)
    ]  # fmt: skip
    filled.write("findings", filled.DAY, rows, lake, tenant)
    first = [
        {"hostname": name, "process": names[(number + 1) % len(names)], "path": names[(number + 2) % len(names)]}
        for number, name in enumerate(names)
    ]
    filled.write("new_behaviour", filled.DAY, first, lake, tenant)


def _tell(home: Path, lake: LakeSettings, tenant: str, names: list[str]) -> None:
    statement = "SELECT coalesce(sum(events), 0) AS value FROM activity WHERE event_day = DATE '2026-03-04'"
    values = {
        name: {"label": label, "display": shown, "previous": before, "unit": unit, "sql": statement}
        for name, label, shown, before, unit in (
            ("events", "File events", "2,100", 1874, "events"),
            ("hosts", "Hosts that reported", "2", None, "hosts"),
        )
    }
    told = {"period_start": filled.DAY, "period": "day", "digest": "d"}
    filled.write("facts", filled.DAY, [told | {"document": json.dumps({"values": values})}], lake, tenant)
    told = {"period_start": filled.DAY, "period": "day", "revision": 1, "facts_digest": "d", "writer": "template"}
    headline = f"2 of 2 monitored hosts reported 2,100 file events; the busiest was {names[0]}."
    filled.write("summaries", filled.DAY, [told | {"headline": headline}], lake, tenant)
    page = Page(
        tenant=tenant, day=filled.DAY, revision=1, provisional=False, as_of=None, status="stable", status_rule="rule",
        headline=(Part("text", "Busiest: "), Part("name", names[0])),
        figures=(Figure("File events", "2,100", "+12 %"),),
        hours=tuple(HourBar(60, 1, 0, hour % 2, 0) for hour in range(24)),
        blocks=(Block("Who", ((Part("name", names[1]),),), with_account=True),),
        rankings=(Ranking("Busiest programs", tuple(Ranked(name, "120", 1.0) for name in names[:10])),),
        accounting="All is accounted for.", blind_spots=("io_uring",), changes=(), further_changes=0,
        written_by="template", facts_digest="ab" * 32, method="1",
    )  # fmt: skip
    file = home / "outbox" / tenant / "day" / f"{filled.DAY}-r1.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(render_html(page), encoding="utf-8")
