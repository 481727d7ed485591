"""The runbook: what it tells people to type, look for and follow is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest
import typer.main

from kaimon.cli.main import build
from pipelines.alerts.causes import KINDS
from pipelines.alerts.words import ANCHORS

ROOT = Path(__file__).resolve().parents[1]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


def anchors(text: str) -> set[str]:
    """Headings as the pages that show Markdown name them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> list[str]:
    found = re.findall(r"`kaimon ([^`]+)`", RUNBOOK) + re.findall(r"^\$ kaimon (.+)$", RUNBOOK, re.MULTILINE)
    return sorted({line.strip(" …") for line in found} - {""})


@pytest.fixture(scope="module")
def program() -> click.Group:
    made = typer.main.get_command(build())
    assert hasattr(made, "commands")
    return made  # type: ignore[return-value]


def test_every_command_in_the_runbook_exists_with_its_options(program: click.Group) -> None:
    assert len(commands()) > 15
    for line in commands():
        at: click.Command = program
        words = line.split()
        while words and hasattr(at, "commands"):
            name = words.pop(0)
            assert name in at.commands, f"kaimon {line}: there is no {name}"
            at = at.commands[name]
        known = {option for parameter in at.params for option in (*parameter.opts, *parameter.secondary_opts)}
        options = {word for word in words if word.startswith("--")}
        assert options <= known, f"kaimon {line}: no {options - known}"


def test_every_alert_leads_to_a_section_of_the_runbook() -> None:
    assert set(KINDS) <= set(ANCHORS)
    assert set(ANCHORS.values()) <= anchors(RUNBOOK)


def test_every_link_of_the_runbook_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", RUNBOOK):
        path, _, anchor = target.partition("#")
        text = (ROOT / "docs" / path).read_text() if path else RUNBOOK
        assert not anchor or anchor in anchors(text), target


def test_every_file_of_tests_that_tried_an_incident_is_there() -> None:
    for path in re.findall(r"tests/[\w/.]+", RUNBOOK):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    "event",
    [
        "alert_not_taken",
        "alert_given_up",
        "landing_run_died",
        "landing_failed",
        "tenant_failed",
        "segment_not_written",
        "put_failures",
        "stuck_tenants",
        "rejected_lines",
    ],
)
def test_every_log_line_and_metric_that_the_runbook_names_is_written_somewhere(event: str) -> None:
    assert event in RUNBOOK
    found = subprocess.run(
        ["git", "grep", "-q", f'"{event}"', "--", "ingest", "pipelines", "tenancy", "lake"], cwd=ROOT, check=False
    )
    assert found.returncode == 0, event
