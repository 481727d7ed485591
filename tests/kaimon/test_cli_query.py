"""`kaimon land` and `kaimon query`, from staged segments to rows on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
import typer
from click.testing import Result

from kaimon.cli import land, query, tenant
from kaimon.cli.query import span
from lake.query import QueryError

STAGING = Path(__file__).parents[1] / "lake" / "staging.py"
NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)


def app(command: Callable[..., None]) -> typer.Typer:
    made = typer.Typer()
    made.command()(command)
    return made


@pytest.fixture
def staged(run: Callable[..., Result], home: Path, staging: ModuleType) -> datetime:
    """Tenants acme and beta; one batch of acme's, of this moment, is staged."""
    for name in ("acme", "beta"):
        assert run(tenant.app, "create", name).exit_code == 0
    now = datetime.now(UTC)
    rows = ({"seq": 1, "path": "/a"}, {"seq": 2, "path": "/b\\x1b[31m"}, {"seq": 3, "process": "\x1b]0;owned\x07"})
    staging.stage(home, "acme", "n1", 1, [staging.Batch(1, rows, received=now)])
    return now


def test_what_landed_can_be_asked_in_every_form(run: Callable[..., Result], staged: datetime) -> None:
    landed = run(app(land.command), "--all", "--until-idle")
    assert landed.exit_code == 0, landed.output
    first, second = landed.stdout.splitlines()
    assert first == "acme: 1 segments, 1 batches, 3 events, 0 duplicates, 0 conflicts, 0 in quarantine"
    assert second.startswith("acme: 0 segments")
    ask = app(query.command)
    sql = "SELECT path, process, count FROM events WHERE seq > 1 ORDER BY seq"
    table = run(ask, "--tenant", "acme", sql)
    assert table.exit_code == 0, table.output
    assert table.stdout.splitlines()[2:] == [
        "/b\\x1b[31m    cat                   1",
        "/data/1111/3  \\x1b]0;owned\\x07      1",
        "(2 rows)",
    ]
    assert table.stderr.startswith("coverage ")
    assert ": 100% of what was seen; 0 known lost, 0 host-hours unknown; " in table.stderr
    as_json = run(ask, "--tenant", "acme", "--format", "json", sql)
    assert json.loads(as_json.stdout)[1] == {"path": "/data/1111/3", "process": "\x1b]0;owned\x07", "count": 1}
    assert "\x1b" not in as_json.stdout
    as_csv = run(ask, "--tenant", "acme", "--format", "csv", sql)
    assert as_csv.stdout.splitlines()[0].split(",") == ["path", "process", "count"]
    assert run(ask, "--tenant", "beta", "SELECT * FROM events").stdout.endswith("(0 rows)\n")
    yesterday = (staged - timedelta(days=1)).date().isoformat()
    before = run(ask, "--tenant", "acme", "--from", yesterday, "--to", yesterday, "SELECT seq FROM events")
    assert before.stdout.endswith("(0 rows)\n")
    assert "nothing is known" in before.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--tenant", "nobody", "SELECT 1"), "there is no tenant 'nobody'"),
        (("--tenant", "acme", "SELECT * FROM read_text('/etc/passwd')"), "file system operations are disabled"),
        (("--tenant", "acme", "DROP TABLE events"), "one SELECT statement"),
        (("--tenant", "acme", "--from", "soon", "SELECT 1"), "--from wants a date"),
        (("--tenant", "acme", "SELECT '\x1b[31m'::INTEGER"), "\\x1b[31m"),
    ],
)
def test_a_refusal_is_told_on_stderr_with_exit_code_2(
    run: Callable[..., Result], staged: datetime, arguments: tuple[str, ...], complaint: str
) -> None:
    refused = run(app(query.command), *arguments)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: ")
    assert complaint in refused.stderr
    assert "\x1b" not in refused.stderr


def test_land_wants_a_tenant_that_there_is_or_all(run: Callable[..., Result], staged: datetime) -> None:
    assert run(app(land.command)).exit_code == 2
    assert run(app(land.command), "--all", "--tenant", "acme").exit_code == 2
    assert "no tenant 'nobody'" in run(app(land.command), "--tenant", "nobody").stderr


def test_a_tenant_that_cannot_land_stops_no_other_and_is_told(
    run: Callable[..., Result], staged: datetime, home: Path, staging: ModuleType
) -> None:
    broken = home / "staging" / "acme" / "n1" / "000000000001.parquet"
    broken.write_bytes(b"no segment")
    staging.stage(home, "beta", "n1", 1, [staging.batch(1, received=staged)])
    landed = run(app(land.command), "--all")
    assert landed.exit_code == 1
    assert landed.stdout.startswith("beta: 1 segments")


@pytest.mark.parametrize(
    ("first", "last", "begin", "end"),
    [
        (None, None, "2026-03-09T12:30:00+00:00", "2026-03-10T12:30:00+00:00"),
        ("2026-03-01", "2026-03-01", "2026-03-01T00:00:00+00:00", "2026-03-02T00:00:00+00:00"),
        ("2026-03-01", None, "2026-03-01T00:00:00+00:00", "2026-03-10T12:30:00+00:00"),
        (None, "2026-03-01T06:00", "2026-02-28T06:00:00+00:00", "2026-03-01T06:00:00+00:00"),
        ("2026-03-01T06:00:00+02:00", "2026-03-01T04:00:00.5Z", "2026-03-01T04:00:00+00:00",
         "2026-03-01T04:00:00.500000+00:00"),
    ],
)  # fmt: skip
def test_a_range_is_dates_or_times(first: str | None, last: str | None, begin: str, end: str) -> None:
    assert [moment.isoformat() for moment in span(first, last, NOW)] == [begin, end]


@pytest.mark.parametrize(
    ("first", "last"),
    [("2026-03-11", None), ("2026-03-02", "2026-03-01"), ("x", None), (None, "9999-12-31"), ("", None)],
)
def test_a_range_that_is_none_is_refused(first: str | None, last: str | None) -> None:
    with pytest.raises(QueryError):
        span(first, last, NOW)
