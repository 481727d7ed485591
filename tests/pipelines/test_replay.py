"""Lines that leave quarantine land once, and every count follows: `kaimon quarantine list` and `replay`."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from typer.testing import CliRunner

from ingest.batch import Arrived, Unread, read_batch
from ingest.settings import IngestSettings
from kaimon.base.clock import to_micros
from kaimon.cli.quarantine import app
from lake.segments import Rejected, encode_segment, segment_key
from lake.stores import open_store
from pipelines.checks.accounting import account, by_load
from pipelines.landing import land_tenant
from pipelines.verify import verify
from tenancy.audit import read_chain
from tenancy.credentials import HostIdentity
from tenancy.days import get
from tenancy.subscriptions import Subscription

START = datetime(2026, 3, 4, 10, tzinfo=UTC)
DAY = date(2026, 3, 4)
RANGE = ("--tenant", "acme", "--from", "2026-03-04", "--to", "2026-03-04")
Run = Callable[..., list[dict[str, Any]]]


def line_of(row: dict[str, Any]) -> bytes:
    """A row as an agent writes it; one that was made here lacks nothing that a line must have."""
    return json.dumps({**row, "time": to_micros(row["time"])}, separators=(",", ":")).encode()


@pytest.fixture
def run(home: Any) -> Run:
    def do(*words: str, status: int = 0) -> list[dict[str, Any]]:
        answer = CliRunner().invoke(app, [*words, *RANGE, "--json"])
        assert answer.exit_code == status, answer.output + repr(answer.exception)
        return [json.loads(line) for line in answer.stdout.splitlines()]

    return do


@pytest.fixture
def set_apart(home: Any, load: Any) -> Any:
    """A landed day of acme: of six rows ingest refused three, two of which today's rules let pass."""
    rows = [load.do(START, count=index + 1, path=f"/data/\u202e{index}") for index in range(6)]
    load.cut(START, final=True, broken=3)
    record, table, _ = load.parts[0]
    raws = [line_of(rows[0]), b'{"not":"an event"}', line_of(rows[2])]
    refused = [Rejected(line + 2, "line_too_long", "of old", raw) for line, raw in enumerate(raws)]
    load.parts[0] = (replace(record), table, refused)
    home.stage(home.tenant("acme"), load)
    land(home)
    return load


def land(home: Any) -> None:
    land_tenant(home.db, "acme", "test", home.lake)


def holds(home: Any) -> bool:
    """Whether both equations hold, on every CPU, from the tables alone."""
    tables = [home.table("acme", name) for name in ("events", "batches", "quarantine")]
    return bool(by_load(account(*tables))["holds"].all())


def test_what_was_refused_is_listed_replayed_and_landed_once(home: Any, set_apart: Any, run: Run) -> None:
    listed = run("list")
    assert [(row["line"], row["code"]) for row in listed] == [(line, "line_too_long") for line in (2, 3, 4)]
    assert not holds(home)  # a line that cannot be read stands for one event, whatever it counted
    (dry,) = run("replay")
    assert (dry["lines"], dry["passing"], dry["state"], dry["segment"]) == (3, 2, "dry run", None)
    assert dry["codes"] == {"line_too_long: passes": 2, "line_too_long: still bad_value": 1}
    land(home)
    assert home.table("acme", "events").height == 3
    (done,) = run("replay", "--apply")
    assert done["state"] == "staged"
    land(home)
    land(home)
    events = home.table("acme", "events").sort("seq")
    assert events.select("seq", "count").rows() == [(0, 1), (2, 3), (3, 4), (4, 5), (5, 6)]
    assert events.select("agent_id", "load_id", "batch_seq", "hostname", "received_at").unique().height == 1
    assert [row["line"] for row in run("list")] == [3]
    assert [row["rows"] for row in home.table("acme", "batches").filter(outcome="replayed").to_dicts()] == [2]


def test_a_line_is_replayed_once_however_often_it_is_asked(home: Any, set_apart: Any, run: Run) -> None:
    (first,) = run("replay", "--apply")
    answer = CliRunner().invoke(app, ["replay", "--apply", *RANGE])
    assert answer.exit_code == 2
    assert "has not landed yet" in answer.output
    land(home)
    (again,) = run("replay", "--apply")
    assert (again["passing"], again["state"]) == (0, "nothing")
    land(home)
    assert home.table("acme", "events").height == 5
    keys = [found.key for found in open_store("staging").list("acme") if "replay-" in found.key]
    assert keys == [first["segment"]]


def test_the_day_is_checked_again_and_passes_with_every_count_right(home: Any, load: Any, run: Run) -> None:
    rows = [load.do(START, count=2) for _ in range(4)]
    load.cut(START, final=True, broken=1)
    record, table, _ = load.parts[0]
    load.parts[0] = (record, table, [Rejected(2, "line_too_long", "of old", line_of(rows[0]))])
    home.stage(home.tenant("acme"), load)
    land(home)

    def closed() -> tuple[Any, ...]:
        assert home.run(day=DAY).success
        state = get(home.db, "acme", DAY)
        assert state is not None
        (hour,) = home.table("acme", "completeness").filter(pl.col("seen") > 0).to_dicts()
        facts = json.loads(home.table("acme", "facts").sort("made_at")["document"][-1])
        lines = facts["values"]["quarantine.lines"]["value"]
        return state.state, hour["captured"], hour["unaccounted"], hour["state"], lines

    assert closed() == ("passed", 8, 0, "complete", 1)
    assert holds(home)
    run("replay", "--apply")
    land(home)
    state = get(home.db, "acme", DAY)
    assert state is not None
    assert state.state == "open"
    assert holds(home)
    assert closed() == ("passed", 8, 0, "complete", 0)
    proof = verify(home.tables("acme"), DAY, DAY)
    assert proof.holds
    assert (proof.sums["seen"], proof.sums["delivered_events"], proof.sums["quarantined_events"]) == (8, 8, 0)


def test_a_replay_is_on_the_audit_chain_by_number_alone(home: Any, set_apart: Any, run: Run) -> None:
    run("replay")
    assert not [one for one in read_chain(home.db, "acme")[1] if "quarantine" in one.body]
    (done,) = run("replay", "--apply")
    (found,) = [one.content for one in read_chain(home.db, "acme")[1] if "quarantine" in one.body]
    assert (found["act"], found["detail"]) == ("quarantine.replay", {"lines": 2, "batches": 1})
    assert found["subject"] in done["segment"]
    assert str(found["actor"]).startswith("prs_")


def test_a_run_that_dies_between_the_tables_is_finished(
    home: Any, set_apart: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lake.commits import Writer

    run("replay", "--apply")
    append = Writer.append

    def dying_at(dead: str) -> Callable[..., int]:
        def dying(self: Writer, table: str, *rest: Any, **more: Any) -> int:
            if table == dead:
                raise KeyboardInterrupt
            return append(self, table, *rest, **more)

        return dying

    for dead in ("quarantine", "batches"):
        monkeypatch.setattr(Writer, "append", dying_at(dead))
        with pytest.raises(KeyboardInterrupt):
            land(home)
        monkeypatch.setattr(Writer, "append", append)
    land(home)
    assert home.table("acme", "events").height == 5
    assert [row["line"] for row in run("list")] == [3]


def test_what_an_attacker_chose_does_not_act_on_the_terminal(home: Any, set_apart: Any) -> None:
    answer = CliRunner().invoke(app, ["list", *RANGE])
    assert "\u202e" not in answer.output
    assert answer.output.isprintable() or all(line.isprintable() for line in answer.output.splitlines())
    assert len(answer.output.splitlines()) == 3


def test_a_conflicting_batchs_lines_never_pass(home: Any, load: Any, run: Run) -> None:
    load.do(START)
    load.cut(START)
    record, table, rejected = load.parts[0]
    load.parts.append((replace(record, digest="another"), table, rejected))
    home.stage(home.tenant("acme"), load)
    land(home)
    assert [row["code"] for row in run("list")] == ["batch_conflict"]
    (dry,) = run("replay")
    assert (dry["lines"], dry["passing"]) == (0, 0)


def test_what_ingest_refused_by_a_limit_lands_when_the_limit_is_raised(
    home: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through ingest's own reading of a body, before and after."""
    spec = importlib.util.spec_from_file_location("wire_of_ingest", Path(__file__).parents[1] / "ingest" / "wire.py")
    assert spec is not None
    assert spec.loader is not None
    wire = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(wire)
    home.tenant("acme")
    host = wire.Host("acme", "agt_00000000000000cc", "")
    long = f"/srv/{'x' * 500}"
    rows = [{**row, "path": long} if index == 1 else row for index, row in enumerate(host.events(3))]
    now = datetime.now(UTC)
    body = zstandard.compress(wire.lines(host.header(), *rows))
    sender = HostIdentity("acme", host.agent_id, "host-1", Subscription("active"))
    arrived = Arrived(body, hashlib.sha256(body).hexdigest(), to_micros(now), sender)
    batch = read_batch(Unread(arrived, IngestSettings(max_line_bytes=600)))
    assert [line.code for line in batch.rejected] == ["line_too_long"]
    data = encode_segment("node-9", 1, "acme", [(batch.record, batch.rows, batch.rejected)])
    open_store("staging").put_new(segment_key("acme", "node-9", 1), data)
    land(home)
    today = ("--from", now.date().isoformat(), "--to", now.date().isoformat())
    monkeypatch.setenv("KAIMON_MAX_LINE_BYTES", "600")
    answer = CliRunner().invoke(app, ["replay", "--apply", "--tenant", "acme", *today, "--json"])
    assert json.loads(answer.stdout)["codes"] == {"line_too_long: still line_too_long": 1}
    monkeypatch.delenv("KAIMON_MAX_LINE_BYTES")
    answer = CliRunner().invoke(app, ["replay", "--apply", "--tenant", "acme", *today, "--json"])
    assert json.loads(answer.stdout)["codes"] == {"line_too_long: passes": 1}
    land(home)
    events = home.table("acme", "events").sort("seq")
    assert events["path"].to_list() == ["/srv/data/0", long, "/srv/data/2"]
    assert events["seq"].to_list() == [0, 1, 2]


def test_a_tenant_that_is_not_there_is_refused(home: Any) -> None:
    answer = CliRunner().invoke(app, ["list", "--tenant", "nobody"])
    assert answer.exit_code == 2
    assert "no tenant" in answer.output
