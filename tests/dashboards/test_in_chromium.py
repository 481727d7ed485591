"""The page in a real browser: hostile names stay text, nothing is fetched, and something is to be seen."""

from __future__ import annotations

import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest

from dashboards.reports.html import render_html
from dashboards.reports.page import Block, Figure, HourBar, Page, Part, Ranked, Ranking

HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "<svg/onload=document.title='owned'>",
    "</style><script>document.title='owned'</script>",
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--window-size=1000,1600",
)  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page in which every name is hostile, as a file."""
    hour = HourBar(events=120, complete=2, partial=0, unknown=0, not_monitored=0)
    names = tuple(Ranked(name, "120", 1.0) for name in HOSTILE)
    content = Page(
        tenant="acme", day=date(2026, 3, 4), revision=1, provisional=False, as_of=None, status="stable",
        status_rule=HOSTILE[0], headline=tuple(Part("name", name) for name in HOSTILE),
        figures=(Figure("File events", "120", HOSTILE[1]),), hours=(hour, *([None] * 23)),
        blocks=(Block("Who", (tuple(Part("name", name) for name in HOSTILE),), with_account=True),),
        rankings=(Ranking("Busiest programs", names),), accounting=HOSTILE[2], blind_spots=HOSTILE, changes=(),
        further_changes=0, written_by=HOSTILE[3], facts_digest="ab" * 32, method="1",
    )  # fmt: skip
    file = tmp_path / "page.html"
    file.write_text(render_html(content), encoding="utf-8")
    return file


@pytest.mark.browser
def test_no_name_runs_as_a_script_and_the_page_is_seen(page: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    picture = tmp_path / "page.png"
    flags = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]
    dom = subprocess.run([*flags, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert "<title>owned" not in dom.stdout
    assert "&lt;script&gt;document.title" in dom.stdout
    assert "<script" not in dom.stdout
    assert "<img" not in dom.stdout
    subprocess.run([*flags, f"--screenshot={picture}", page.as_uri()], capture_output=True, timeout=120, check=True)
    assert picture.stat().st_size > 20_000
