"""`kaimon quarantine release`: what is outside landing's window lands once when let out, and stays in a replay."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from kaimon.base.clock import to_micros
from kaimon.cli.quarantine import app
from lake.commits import Writer
from lake.ordering import ORDER
from lake.segments import Rejected
from lake.stores import open_store
from pipelines.checks.day import measure_day
from pipelines.landing import land_tenant
from pipelines.replay import replay_day
from pipelines.verify import verify
from tenancy.audit import read_chain
from tenancy.days import get, set_checked

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = date(2026, 3, 4)
OLD = date(2026, 1, 20)
AHEAD = date(2026, 3, 5)
RANGE = ("--tenant", "acme", "--from", "2026-03-04", "--to", "2026-03-04")
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(home: Any) -> Run:
    def do(*words: str) -> dict[str, Any]:
        answer = CliRunner().invoke(app, [*words, *RANGE, "--json"])
        assert answer.exit_code == 0, answer.output + repr(answer.exception)
        (line,) = answer.stdout.splitlines()
        return json.loads(line)  # type: ignore[no-any-return]

    return do


@pytest.fixture
def landed(home: Any, load: Any) -> Any:
    """A landed day of acme: two rows of its time, and three that are not, two of them of other days."""
    load.do(NOON)
    load.do(datetime(2026, 1, 20, 12, tzinfo=UTC), path="/old\u202e", count=3)
    load.do(NOON + timedelta(days=1), process_start=None)
    load.do(NOON, last_time=to_micros(NOON + timedelta(hours=2)), count=2)
    load.do(NOON)
    load.cut(NOON, final=True)
    home.stage(home.tenant("acme"), load)
    land(home)
    return load


def land(home: Any) -> None:
    land_tenant(home.db, "acme", "test", home.lake)


def seqs(home: Any) -> list[int]:
    return home.table("acme", "events")["seq"].sort().to_list()  # type: ignore[no-any-return]


def test_what_is_outside_the_window_lands_once_when_it_is_released(home: Any, landed: Any, run: Run) -> None:
    assert run("replay")["codes"] == {"out_of_window: still out_of_window": 3}
    dry = run("release")
    assert (dry["lines"], dry["passing"], dry["state"]) == (3, 3, "dry run")
    assert dry["days"] == ["2026-01-20", "2026-03-04", "2026-03-05"]
    land(home)
    assert seqs(home) == [0, 4]
    done = run("release", "--apply")
    assert (done["state"], "/release-" in done["segment"]) == ("staged", True)
    again = CliRunner().invoke(app, ["release", "--apply", *RANGE])
    assert (again.exit_code, "has not landed yet" in again.output) == (2, True)
    land(home)
    land(home)
    assert seqs(home) == [0, 1, 2, 3, 4]
    events = home.table("acme", "events").sort("seq")
    assert events["event_day"].to_list() == [DAY, OLD, AHEAD, DAY, DAY]
    assert events["count"].to_list() == [1, 3, 1, 2, 1]
    assert events["path"][1] == "/old\u202e"
    assert events.select("agent_id", "load_id", "batch_seq", "received_at").unique().height == 1
    assert run("release", "--apply")["state"] == "nothing"
    assert seqs(home) == [0, 1, 2, 3, 4]


def test_each_day_that_a_release_reaches_is_open_balanced_and_checked(home: Any, landed: Any, run: Run) -> None:
    days = (OLD, DAY, AHEAD)
    run("release", "--apply")
    for day in days:
        state = get(home.db, "acme", day)
        if state is not None:
            assert set_checked(home.db, "acme", day, True, {}, state.version)
    land(home)
    for day in days:
        state = get(home.db, "acme", day)
        assert state is not None
        assert state.state == "open", day
        row = measure_day(home.tables("acme"), day).row
        assert not [name for name, value in row.items() if name not in {"tenant", "rows", "batches"} and value], row
        assert verify(home.tables("acme"), day, day).holds, day
    proof = verify(home.tables("acme"), DAY, DAY)
    assert (proof.sums["seen"], proof.sums["delivered_events"], proof.sums["quarantined_events"]) == (8, 8, 0)


def test_a_replay_of_each_day_keeps_what_was_released(home: Any, landed: Any, run: Run) -> None:
    run("release", "--apply")
    land(home)
    before = home.table("acme", "events")
    for day, rows in ((OLD, 1), (DAY, 3), (AHEAD, 1)):
        found = replay_day(home.tables("acme"), day, apply=True)
        assert (found.rows, found.same) == (rows, True), day
    assert_frame_equal(home.table("acme", "events").sort(ORDER), before.sort(ORDER))


def test_a_replay_without_the_released_segment_is_refused(home: Any, landed: Any, run: Run) -> None:
    from pipelines.replay import ReplayError

    done = run("release", "--apply")
    land(home)
    open_store("staging").delete([done["segment"]])
    with pytest.raises(ReplayError, match=done["segment"]):
        replay_day(home.tables("acme"), OLD)


def test_only_what_is_outside_the_window_is_released(home: Any, load: Any, run: Run) -> None:
    load.do(NOON)
    load.do(NOON - timedelta(days=40))
    load.cut(NOON, broken=1)
    record, table, _ = load.parts[0]
    load.parts[0] = record, table, [Rejected(2, "line_too_long", "of old", b'{"not":"an event"}')]
    home.stage(home.tenant("acme"), load)
    land(home)
    found = run("release", "--apply")
    assert found["codes"] == {"out_of_window: passes": 1}
    land(home)
    assert seqs(home) == [1]


@pytest.mark.parametrize("dead", ["quarantine", "batches", "hosts"])
def test_a_run_that_dies_with_a_release_between_the_tables_is_finished(
    home: Any, landed: Any, run: Run, monkeypatch: pytest.MonkeyPatch, dead: str
) -> None:
    run("release", "--apply")
    name = "replace" if dead == "hosts" else "append"
    write = getattr(Writer, name)

    def dying(self: Writer, table: str, *rest: Any, **more: Any) -> int:
        if table == dead:
            raise KeyboardInterrupt
        return write(self, table, *rest, **more)  # type: ignore[no-any-return]

    with monkeypatch.context() as patched:
        patched.setattr(Writer, name, dying)
        with pytest.raises(KeyboardInterrupt):
            land(home)
    state = get(home.db, "acme", OLD)
    assert state is not None
    assert set_checked(home.db, "acme", OLD, True, {}, state.version)
    land(home)
    assert seqs(home) == [0, 1, 2, 3, 4]
    state = get(home.db, "acme", OLD)
    assert state is not None
    assert state.state == "open", "what was checked half-way is open again"
    assert verify(home.tables("acme"), DAY, DAY).holds


def test_a_release_is_on_the_audit_chain_by_number_alone(home: Any, landed: Any, run: Run) -> None:
    run("release")
    assert not [one for one in read_chain(home.db, "acme")[1] if "quarantine" in one.body]
    run("release", "--apply")
    (found,) = [one.content for one in read_chain(home.db, "acme")[1] if "quarantine" in one.body]
    assert (found["act"], found["detail"]) == ("quarantine.release", {"lines": 3, "batches": 1})


def test_a_release_says_in_words_what_it_would_do(home: Any, landed: Any) -> None:
    answer = CliRunner().invoke(app, ["release", *RANGE])
    assert "3 of 3 lines can be released: this was a dry run; --apply stages them" in answer.output
    assert "their days: 2026-01-20, 2026-03-04, 2026-03-05" in answer.output
