"""The same day under harmless and under hostile names, landed and told by the real assets: only the names differ."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import unicodedata
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from dashboards.portal.activity import as_csv, table_of
from dashboards.portal.question import Question
from dashboards.reports.mail import render_mail, subject
from lake.settings import LakeSettings
from pipelines.summaries.day import newest_page
from pipelines.summaries.period import Period
from tenancy.recipients import add_recipient, recipients
from tenancy.wording import allow_model
from tests.aws import REGION
from tests.converse import Converse, honest

from .conftest import DAY, MODEL, START
from .test_hostile_names import INJECTIONS

OWNED = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "<svg/onload=document.title='owned'>",
    "</title></style><script>document.title='owned'</script>",
    "javascript:document.title='owned'",
    '=HYPERLINK("http://evil.example","all quiet")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
)
HOSTILE = [*OWNED, *INJECTIONS]
HARMLESS = [f"plain-{number:02}" for number in range(len(HOSTILE))]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip


def live(home: Any, new_load: Any, tenant: str, names: list[str]) -> None:
    """A day on which hosts, users, programs and files have these names, and some do what rules look for."""
    home.tenant(tenant)
    allow_model(home.db, tenant, allowed=True)
    add_recipient(home.db, tenant, f"ciso@{tenant}.example")
    for place, name in enumerate(names):
        load = new_load(agent_id=f"agt_{place:016x}", hostname=name, claims=name)
        by = {"user": name, "uid": 1000 + place, "process": name, "exe": f"/opt/{name}"}
        # Each does more than the one before, so that their ranks do not hang on their names.
        load.do(START + timedelta(minutes=place), count=100 * (len(names) - place), path=f"/srv/{name}", **by)
        load.do(START + timedelta(minutes=place), path=f"/etc/cron.d/{name}", **by)
        load.do(START + timedelta(minutes=place), path=name, operation="rename", target_path=f"{name}/x", **by)
        load.lose(events=2)
        load.cut(START + timedelta(minutes=place), final=True)
        home.stage(tenant, load, node="n-1")


@pytest.fixture
def told(home: Any, new_load: Any, converse: Converse, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both tenants' day, told with a model's words."""
    for name, value in {
        "KAIMON_SUMMARY_MODEL": MODEL,
        "KAIMON_SUMMARY_MODEL_TIMEOUT_S": "60",
        "KAIMON_AWS_REGION": REGION,
        "KAIMON_AWS_BEDROCK_ENDPOINT_URL": converse.url,
    }.items():
        monkeypatch.setenv(name, value)
    converse.replies = [honest]
    live(home, new_load, "hostile", HOSTILE)
    live(home, new_load, "plain", HARMLESS)
    assert home.run("events").success
    assert home.run(day=DAY).success
    return home


def facts(home: Any, tenant: str) -> dict[str, Any]:
    frame = home.table(tenant, "facts")
    return dict(json.loads(frame.filter(frame["period"] == "day")["document"][-1]))


def assert_only_names_differ(home: Any) -> None:
    hostile, plain = facts(home, "hostile"), facts(home, "plain")
    assert [one["rule"] for one in hostile["matters"]] == ["cron_written"]
    for same in ("status", "status_rule", "must_mention", "decisions", "accounting", "hours", "matters"):
        assert hostile[same] == plain[same], same
    assert {name: one["value"] for name, one in hostile["values"].items()} == {
        name: one["value"] for name, one in plain["values"].items()
    }
    columns = ["rule", "severity", "state"]
    assert home.table("hostile", "findings").select(columns).rows() == home.table("plain", "findings")[columns].rows()
    assert {one["name"] for one in hostile["entities"].values()} & set(HOSTILE), "the names have come through"


def assert_csv_is_inert(home: Any) -> None:
    scope: Any = type("Scope", (), {"tenant_id": "hostile"})
    found = table_of(scope, Question(START, START + timedelta(days=1)), LakeSettings())
    rows = list(csv.reader(io.StringIO(as_csv(found.to_pylist()))))
    cells = [cell for row in rows[1:] for cell in row]
    assert any("HYPERLINK" in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def assert_page_and_paper_are_inert(home: Any, tmp_path: Path) -> None:
    page = newest_page(home.tables("hostile"), Period("day", DAY))
    assert page is not None
    mail = tmp_path / "mail.html"
    mail.write_text(render_mail(page), encoding="utf-8")
    assert subject(page).replace("hostile", "plain") == subject(newest_page(home.tables("plain"), Period("day", DAY)))  # type: ignore[arg-type]
    outbox = home.path / "outbox" / "hostile" / "day"
    for file in (outbox / f"{DAY}-r1.html", outbox / f"{DAY}-r1.txt", mail):
        odd = {one for one in file.read_text() if unicodedata.category(one) in {"Cc", "Cf"} and one != "\n"}
        assert not odd, file.name
    paper = PdfReader(outbox / f"{DAY}-r1.pdf")
    names = {key for page in paper.pages for key in page}
    assert "/AA" not in names
    assert not {"/OpenAction", "/AA", "/AcroForm", "/Names"} & set(paper.trailer["/Root"])
    assert not [one for page in paper.pages for one in page.get("/Annots", [])]
    if (browser := shutil.which("chromium")) is None:
        return
    for file in (outbox / f"{DAY}-r1.html", mail):
        flags = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()]
        dom = subprocess.run(flags, capture_output=True, text=True, timeout=120, check=True).stdout
        assert "<title>owned" not in dom
        assert "owned" in dom, "a name of those that try is on the page"
        assert not [tag for tag in ("<script", "<img", "<svg/", "<a ") if tag in dom]


@pytest.mark.slow
@pytest.mark.browser
def test_names_change_no_prompt_status_severity_or_recipient_and_run_nowhere(
    told: Any, converse: Converse, tmp_path: Path
) -> None:
    assert len(converse.raw) == 2
    assert converse.raw[0] == converse.raw[1], "no byte of a name is in what is sent"
    assert_only_names_differ(told)
    assert [one.address for one in recipients(told.db, "hostile")] == ["ciso@hostile.example"]
    assert_csv_is_inert(told)
    assert_page_and_paper_are_inert(told, tmp_path)
