"""`kaimon finding`: what was found, what is dealt with, what is not to be reported."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from kaimon.cli.main import build
from lake.settings import LakeSettings
from pipelines.findings.day import make_findings
from pipelines.tables import TenantTables
from tenancy.database import open_database
from tenancy.tenants import create_tenant

HOSTILE = "/etc/sudoers.d/\x1b[31m\u202ex"


def test_findings_are_listed_closed_and_suppressed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import polars as pl

    from lake.frames import frame_schema

    monkeypatch.setenv("KAIMON_HOME", str(tmp_path))
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    at = datetime(yesterday.year, yesterday.month, yesterday.day, 9, tzinfo=UTC)
    values = {pl.String: "x", pl.Date: yesterday, pl.Datetime("us", "UTC"): at}
    row = {name: values.get(kind, 0) for name, kind in frame_schema("events").items()}
    row |= {"operation": "write", "path": HOSTILE, "exe": "/usr/bin/vim", "target_path": None, "count": 1}
    db = open_database()
    create_tenant(db, "acme", subscription="active")
    tables = TenantTables(db, "acme", "test", LakeSettings())
    tables.append("events", pl.DataFrame([row], schema=frame_schema("events")))
    make_findings(tables, yesterday)
    db.close()

    def run(*words: str, code: int = 0) -> str:
        answer = CliRunner().invoke(build(("finding",)), ["finding", *words])
        assert answer.exit_code == code, answer.output
        return str(answer.output)

    listed = run("list", "--tenant", "acme")
    assert "high" in listed
    assert "sudoers_written" in listed
    assert "\x1b" not in listed
    assert "\u202e" not in listed
    name = listed.split()[0]
    assert f"{name} closed" in run("close", name, "--tenant", "acme", "--reason", "It was Ann.")
    until = (yesterday + timedelta(days=30)).isoformat()
    more = ("--tenant", "acme", "--reason", "Ann", "--until", until)
    made = run("suppress", "sudoers_written", *more, "--user", "ann").strip()
    assert "in force" in run("suppressed", "--tenant", "acme")
    run("unsuppress", made, "--tenant", "acme")
    assert "ended" in run("suppressed", "--tenant", "acme")
    run("suppress", "no_such_rule", *more, "--user", "ann", code=2)
    run("suppress", "sudoers_written", *more, code=2)
    assert "T1548.003" in run("rules")
