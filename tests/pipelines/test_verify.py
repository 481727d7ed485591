"""`kaimon verify`: the proof from the tables alone, and that it fails when a table was tampered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from click.testing import Result
from typer import Typer
from typer.testing import CliRunner

from kaimon.cli import verify as verify_cli
from pipelines.verify import verify

DAY = date(2026, 3, 4)
MORNING = datetime(2026, 3, 4, 9, tzinfo=UTC)
BEAT = timedelta(seconds=30)


def beats(load: Any, start: datetime, number: int, *, final: bool) -> None:
    for beat in range(number):
        load.do(start + beat * BEAT, count=2)
        load.cut(start + (beat + 1) * BEAT, final=final and beat == number - 1)


@pytest.fixture
def landed(home: Any, new_load: Any) -> Callable[..., Any]:
    """Land loads of one tenant."""

    def land(*loads: Any) -> Any:
        home.tenant("acme")
        home.stage("acme", *loads)
        assert home.run("events").success
        return home

    return land


def run(*arguments: str) -> Result:
    app = Typer()
    app.command()(verify_cli.command)
    return CliRunner().invoke(app, ["--tenant", "acme", "--from", "2026-03-04", "--to", "2026-03-05", *arguments])


def test_losses_and_silence_are_said_by_host_and_hour_and_the_proof_holds(
    landed: Callable[..., Any], new_load: Any
) -> None:
    whole = new_load(agent_id="agt_00000000000000aa", hostname="web-1")
    beats(whole, MORNING, 10, final=True)
    torn = new_load(agent_id="agt_00000000000000bb", hostname="web-2")
    torn.lose(events=37)
    beats(torn, MORNING + timedelta(hours=14), 10, final=False)
    landed(whole, torn)
    answer = run()
    assert answer.exit_code == 0, answer.output
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("77 events seen = 40 delivered + 0 filtered + 37 lost + 0 pending; 0 unaccounted")
    assert any(line.startswith("2026-03-04T23:00Z  web-2  unknown: 37 lost (ring); ") for line in lines)
    assert not any("web-1" in line for line in lines)
    assert any(line.startswith("2026-03-05T07:00Z  web-2  unknown") for line in lines)
    assert lines[-1] == "the proof of 2026-03-04 to 2026-03-05 holds"
    said = json.loads(run("--json").stdout)
    assert (said["tenant"], said["holds"], said["sums"]["lost_events"]) == ("acme", True, 37)
    torn_hour = [
        hour for hour in said["hours"] if (hour["hour"], hour["hostname"]) == ("2026-03-04T23:00:00Z", "web-2")
    ]
    assert [(hour["state"], hour["lost_ring"], hour["unaccounted"]) for hour in torn_hour] == [("unknown", 37, 0)]


def tamper(home: Any, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    rows = home.table("acme", "events")
    home.tables("acme").replace_day("events", change(rows), DAY)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows.filter(pl.col("seq") != 3), "2 events and 1 rows unaccounted"),
        (lambda rows: pl.concat([rows, rows.tail(1)]), "1 rows of events that are there twice"),
        (
            lambda rows: pl.concat([rows, rows.tail(1).with_columns(batch_seq=pl.lit(99, pl.Int64))]),
            "that no landed batch brought",
        ),
        (lambda rows: rows.with_columns(count=pl.col("count") + 1), "-10 events and 0 rows unaccounted"),
    ],
    ids=["removed", "doubled", "added", "changed"],
)
def test_a_row_that_was_tampered_with_breaks_the_proof(
    landed: Callable[..., Any], load: Any, change: Callable[[pl.DataFrame], pl.DataFrame], told: str
) -> None:
    beats(load, MORNING, 10, final=True)
    home = landed(load)
    assert verify(home.tables("acme"), DAY, DAY).holds
    tamper(home, change)
    answer = run()
    assert answer.exit_code == 1
    assert told in answer.stdout
    assert answer.stdout.splitlines()[-1].endswith("does NOT hold")


def test_a_batch_that_never_landed_and_that_nobody_owns_up_to_breaks_the_proof(
    landed: Callable[..., Any], load: Any
) -> None:
    beats(load, MORNING, 10, final=True)
    del load.parts[4]
    landed(load)
    answer = run()
    assert answer.exit_code == 1
    assert "2026-03-04T09:00Z  web-1  unknown: 2 unaccounted" in answer.stdout


def test_what_was_quarantined_is_accounted_for(landed: Callable[..., Any], load: Any) -> None:
    load.do(MORNING - timedelta(days=30))
    load.cut(MORNING, quarantine=lambda _row: True)
    beats(load, MORNING, 4, final=True)
    landed(load)
    answer = run()
    assert answer.exit_code == 0, answer.output
    assert "(1 of them in quarantine)" in answer.stdout


def test_a_tenant_or_range_that_is_not_there_is_said_in_a_line(landed: Callable[..., Any], load: Any) -> None:
    beats(load, MORNING, 1, final=True)
    landed(load)
    empty = run("--to", "2026-03-03")
    assert (empty.exit_code, empty.stderr) == (2, "error: the range is empty: 2026-03-04 is after 2026-03-03\n")
    nothing = run("--from", "2026-02-01", "--to", "2026-02-01").stdout.splitlines()
    assert nothing[-2] == "no batch was cut in these days: nothing was seen, and nothing is vouched for"
    unknown = run("--tenant", "zeta")
    assert (unknown.exit_code, unknown.stderr) == (2, "error: there is no tenant 'zeta'\n")
