"""`kaimon replay` and `backfill`: days come again to the same checksum, and a difference is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import Result
from polars.testing import assert_frame_equal
from typer import Typer
from typer.testing import CliRunner

from kaimon.cli import backfill as backfill_cli
from kaimon.cli import replay as replay_cli
from lake.commits import Writer
from lake.encoding import encode
from lake.files import StoredFile, put_file, read_files
from lake.frames import to_rows
from lake.holdings import holdings
from lake.ordering import ORDER
from lake.sealed import seal_of
from lake.segments import segment_key
from lake.stores import open_store
from pipelines import replay as module
from pipelines import seal as sealing
from pipelines.backfill import backfill_day
from pipelines.landing import land_tenant
from pipelines.replay import ReplayError, replay_day
from pipelines.resources import Platform
from pipelines.seal import ChecksumError, checksum_of, seal_day
from tenancy.audit import read_chain
from tenancy.days import get

DAY = date(2026, 3, 4)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
RANGE = ("--tenant", "acme", "--from", "2026-03-04", "--to", "2026-03-04")


def busy(load: Any, minutes: int = 3, start: datetime = NOON) -> Any:
    for minute in range(minutes):
        for second in range(20):
            load.do(start + timedelta(minutes=minute, seconds=second), path=f"/srv/{second * 7 % 20}", count=second + 1)
        load.cut(start + timedelta(minutes=minute, seconds=30), final=minute == minutes - 1)
    return load


@pytest.fixture
def tables(home: Any, load: Any, new_load: Any) -> Any:
    """A day of two hosts, one of which sent some batches twice; the second load runs into the next day."""
    home.tenant("acme")
    busy(load)
    other = busy(new_load(agent_id="agt_00000000000000bb", hostname="db-1"))
    late = busy(new_load(agent_id="agt_00000000000000cc", hostname="late"), start=NOON.replace(hour=23, minute=59))
    home.stage("acme", load, late)
    home.stage("acme", other, load, node="node-2")
    land_tenant(home.db, "acme", "test", home.lake)
    return home.tables("acme")


def files(tables: Any) -> list[StoredFile]:
    return read_files("acme", "events", DAY, tables.settings)


def content(home: Any) -> pl.DataFrame:
    return home.table("acme", "events").sort(ORDER)  # type: ignore[no-any-return]


def run(command: Callable[..., None], *words: str) -> Result:
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, [*RANGE, *words])


def told(answer: Result) -> dict[str, Any]:
    # Warnings of the log stand there too: the command line's own settings of it are not at work here.
    (line,) = [line for line in answer.stdout.splitlines() if line.startswith("{")]
    return json.loads(line)  # type: ignore[no-any-return]


def test_a_dry_run_says_what_it_would_touch_and_changes_nothing(home: Any, tables: Any) -> None:
    before, rows = files(tables), content(home)
    found = told(run(replay_cli.command, "--json"))
    assert (found["segments"], found["rows"], found["table_rows"]) == (7, 140, 140)
    assert found["checksum"] == found["table"]
    assert (found["same"], found["applied"], found["kept"]) == (True, False, None)
    answer = run(replay_cli.command)
    assert answer.exit_code == 0
    assert "nothing was changed" in answer.stdout
    assert found["checksum"] in answer.stdout
    assert files(tables) == before
    assert content(home).equals(rows)
    assert not [one for one in read_chain(home.db, "acme")[1] if "replay" in one.body]


@pytest.mark.parametrize("sealed", [False, True])
def test_a_day_is_landed_again_to_the_checksum_of_its_seal(home: Any, tables: Any, sealed: bool) -> None:
    if sealed:
        seal_day(tables, DAY, range_rows=30, file_bytes=1)
    kept, rows, before = checksum_of(tables, DAY), content(home), files(tables)
    found = told(run(replay_cli.command, "--confirm", "acme", "--json"))
    assert (found["same"], found["applied"], found["kept"]) == (True, True, kept)
    assert checksum_of(tables, DAY) == found["checksum"]
    assert kept in {None, found["checksum"]}
    assert content(home).equals(rows)
    assert not {file.path for file in before} & {file.path for file in files(tables)}
    (act,) = [one.content for one in read_chain(home.db, "acme")[1] if "day.replay" in one.body]
    assert act["detail"] == {"rows": 140, "segments": 7, "same": 1}
    assert seal_day(tables, DAY)["rows"] == 0, "it is sealed"
    assert told(run(replay_cli.command, "--json"))["kept"] == found["checksum"]


def test_small_ranges_and_files_give_the_same_checksum(home: Any, tables: Any) -> None:
    whole = replay_day(tables, DAY)
    assert replay_day(tables, DAY, range_rows=7).checksum == whole.checksum
    assert replay_day(tables, DAY, apply=True, range_rows=7, file_bytes=1).checksum == whole.checksum
    assert checksum_of(tables, DAY) == whole.checksum


@pytest.mark.parametrize("how", ["gone", "another", "damaged"])
def test_a_day_whose_segments_are_not_all_staged_is_refused_and_they_are_named(
    home: Any, tables: Any, how: str
) -> None:
    before = files(tables)
    store = open_store("staging")
    key, other = segment_key("acme", "node-1", 2), segment_key("acme", "node-1", 3)
    data = store.get(other) if how == "another" else b"PAR1" + store.get(key)[4:-20]
    store.delete([key])
    if how != "gone":
        store.put_new(key, data)
    for words in ((), ("--confirm", "acme"), ("--confirm", "acme", "--even-if-different")):
        answer = run(replay_cli.command, *words)
        assert answer.exit_code == 1
        assert f"2026-03-04 cannot be landed again: {key}" in answer.stderr
    assert files(tables) == before
    assert not list(home.path.rglob("sealed-*")), "what was built until then is gone"


def tamper(home: Any, tables: Any) -> None:
    """Put a file without one of its rows in the place of a day's."""
    rows = home.table("acme", "events").filter(event_day=DAY).head(-1)
    extent = rows.height, rows["time"].min(), rows["time"].max()
    name = f"sealed-{seal_of(files(tables)[0])}-09999"
    new = put_file("acme", "events", DAY, encode([to_rows(rows, "events")], "events"), extent, tables.settings, name)
    with tables.writer() as writer:
        writer.swap_files("events", files(tables), [new], same_rows=False)


def test_a_difference_is_named_and_mended_only_when_asked(home: Any, tables: Any) -> None:
    seal_day(tables, DAY)
    kept, rows = checksum_of(tables, DAY), content(home)
    tamper(home, tables)
    before = files(tables)
    for words in (("--json",), ("--confirm", "acme")):
        answer = run(replay_cli.command, *words)
        assert answer.exit_code == 1
        assert "DIFFERENT: 140 staged rows come to" in answer.stderr
        assert "the table's 139 to " in answer.stderr
        assert f"{kept} was kept at its seal" in answer.stderr
    assert files(tables) == before
    assert not [file for file in home.path.rglob("sealed-*") if file.name not in {one.name for one in all_files(home)}]
    answer = run(replay_cli.command, "--confirm", "acme", "--even-if-different", "--json")
    assert answer.exit_code == 1, "it was different, and that is said"
    assert content(home).equals(rows)
    assert checksum_of(tables, DAY) == kept
    state = get(home.db, "acme", DAY)
    assert state is not None
    assert state.state == "open", "what was checked and told is to be done again"
    assert run(replay_cli.command).exit_code == 0


def all_files(home: Any) -> list[Path]:
    """Every file that was ever a part of the table, and is not in vain."""
    log = (home.path / "lake" / "acme" / "events" / "_delta_log").glob("*.json")
    added = [json.loads(line).get("add") for file in log for line in file.read_text().splitlines()]
    return [Path(one["path"]) for one in added if one]


def test_a_table_that_cannot_be_read_is_different_and_can_be_mended(home: Any, tables: Any) -> None:
    rows = content(home)
    broken = home.path / "lake" / "acme" / "events" / files(tables)[0].path
    broken.write_bytes(b"\xff" * broken.stat().st_size)
    answer = run(replay_cli.command)
    assert answer.exit_code == 1
    assert "which cannot be read" in answer.stderr
    assert run(replay_cli.command, "--confirm", "acme", "--even-if-different").exit_code == 1
    assert content(home).equals(rows)


def test_what_lands_while_a_day_is_replayed_stays_beside_it(
    home: Any, tables: Any, new_load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = module.build

    def land_meanwhile(*how: Any) -> Any:
        built = build(*how)
        home.stage("acme", busy(new_load(agent_id="agt_00000000000000dd", hostname="new")), node="node-3")
        land_tenant(home.db, "acme", "test", home.lake)
        return built

    monkeypatch.setattr(module, "build", land_meanwhile)
    assert replay_day(tables, DAY, apply=True).rows == 140
    assert content(home).filter(event_day=DAY).height == 200
    assert checksum_of(tables, DAY) is None, "rows have landed since"
    monkeypatch.setattr(module, "build", build)
    assert replay_day(tables, DAY, apply=True).rows == 200
    assert checksum_of(tables, DAY) is not None


def test_a_replay_that_dies_between_its_commits_keeps_the_checksum(
    home: Any, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal_day(tables, DAY)
    kept, before = checksum_of(tables, DAY), files(tables)
    with monkeypatch.context() as patched:
        patched.setattr(Writer, "swap_files", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            replay_day(tables, DAY, apply=True)
    assert files(tables) == before
    assert checksum_of(tables, DAY) == kept
    assert seal_day(tables, DAY)["rows"] == 0, "it is sealed as it was"
    assert replay_day(tables, DAY, apply=True).kept == kept
    assert home.table("acme", "seals").height == 1
    assert checksum_of(tables, DAY) == kept


def test_a_landing_that_was_cut_off_must_be_finished_first(
    home: Any, tables: Any, new_load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.stage("acme", busy(new_load(agent_id="agt_00000000000000dd")), node="node-3")
    with monkeypatch.context() as patched:
        patched.setattr(Writer, "append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            land_tenant(home.db, "acme", "test", home.lake)
    with pytest.raises(ReplayError, match="was cut off"):
        replay_day(tables, DAY)
    land_tenant(home.db, "acme", "test", home.lake)
    assert replay_day(tables, DAY).rows == 200


def test_a_day_that_is_not_over_and_a_wrong_confirmation_are_refused(home: Any, tables: Any) -> None:
    with pytest.raises(ReplayError, match="is not over"):
        replay_day(tables, datetime.now(UTC).date())
    for command in (replay_cli.command, backfill_cli.command):
        answer = run(command, "--confirm", "beta")
        assert answer.exit_code == 2
        assert "is not 'acme': nothing was changed" in answer.stderr
        assert run(command, "--to", "2026-03-03").exit_code == 2
        assert "there is no tenant" in run(command, "--tenant", "nobody").stderr


def test_a_backfill_computes_seal_checks_rollups_and_facts_from_the_events(home: Any, tables: Any) -> None:
    dry = told(run(backfill_cli.command, "--json"))
    assert (dry["rows"], dry["applied"], dry["kept"], dry["tables"]["activity"]) == (140, False, None, 0)
    assert home.table("acme", "activity").is_empty()
    first = told(run(backfill_cli.command, "--confirm", "acme", "--json"))
    assert (first["same"], first["applied"], first["state"], first["broken"]) == (True, True, "passed", [])
    assert first["kept"] == first["checksum"] == dry["checksum"]
    assert first["new_facts"] == 1
    names = [*first["tables"], "facts"]
    before = {name: home.table("acme", name) for name in names}
    assert before["activity"]["events"].sum() == home.table("acme", "events").filter(event_day=DAY)["count"].sum()
    again = run(backfill_cli.command, "--confirm", "acme")
    assert again.exit_code == 0, again.output
    assert "the same facts" in again.stdout
    for name in names:
        assert_frame_equal(home.table("acme", name), before[name], check_row_order=False)
    assert replay_day(tables, DAY).checksum == first["checksum"], "both give the same"


def test_a_backfill_of_a_day_that_was_tampered_with_is_refused_and_named(home: Any, tables: Any) -> None:
    assert run(backfill_cli.command, "--confirm", "acme").exit_code == 0
    rolled = home.table("acme", "activity")
    tamper(home, tables)
    before = files(tables)
    for words in ((), ("--confirm", "acme")):
        answer = run(backfill_cli.command, *words)
        assert answer.exit_code == 1
        assert "DIFFERENT" in answer.stderr
    with pytest.raises(ChecksumError):
        backfill_day(Platform(), tables, DAY)
    assert files(tables) == before
    assert home.table("acme", "activity").equals(rolled)


def test_a_backfill_touches_no_rollup_of_a_day_whose_checks_fail(home: Any, tables: Any) -> None:
    rows = home.table("acme", "events").filter(event_day=DAY).head(1)
    tables.append("events", rows)
    answer = run(backfill_cli.command, "--confirm", "acme", "--json")
    assert answer.exit_code == 1
    assert "its checks failed, so no rollup was touched: " in answer.stderr
    assert "doubled_rows" in told(answer)["broken"]
    assert home.table("acme", "activity").is_empty()


def test_a_range_goes_on_past_a_day_that_is_refused(home: Any, tables: Any) -> None:
    store = open_store("staging")
    gone = [stored.key for stored in store.list("acme/node-2")]
    store.delete(gone)
    answer = CliRunner().invoke(_app(), ["--tenant", "acme", "--from", "2026-03-04", "--to", "2026-03-05", "--json"])
    assert answer.exit_code == 1
    first, second = (json.loads(line) for line in answer.stdout.splitlines())
    assert first["day"] == "2026-03-04"
    assert "cannot be landed again" in first["error"]
    assert (second["day"], second["rows"], second["same"]) == ("2026-03-05", 40, True)


def _app() -> Typer:
    app = Typer()
    app.command()(replay_cli.command)
    return app


def test_what_a_replay_builds_in_vain_is_gone_when_it_fails(
    home: Any, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing.SealedFiles, "close", lambda _self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        replay_day(tables, DAY, apply=True, range_rows=7, file_bytes=1)
    lake = holdings(tables.settings.lake_url, "lake")
    assert not [held for held in lake.held("acme/events") if "sealed-" in held.key]
