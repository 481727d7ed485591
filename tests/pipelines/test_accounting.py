"""The two equations, from the tables alone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.checks.accounting import account, accounting_line, by_load, missing_batches
from pipelines.checks.missing import missing_rows

SECOND = timedelta(seconds=1)


def busy(load: Any, noon: datetime) -> Any:
    """Two batches on two CPUs with everything in them: collapse, filter, losses, an open window."""
    load.do(noon, cpu=0)
    load.do(noon, cpu=0, count=7)
    load.do(noon, cpu=1)
    load.filter_out(100, cpu=1)
    load.hold(3, cpu=1)
    load.cut(noon + SECOND)
    load.lose(cpu=0, cause="ring", rows=2, events=5)
    load.do(noon + 2 * SECOND, cpu=0)
    load.hold(-3, cpu=1)
    load.do(noon + 2 * SECOND, cpu=1, count=3)
    load.counters[1].seen -= 3  # the window's occurrences were seen when it held them
    load.cut(noon + 3 * SECOND)
    return load


def test_both_equations_hold_for_a_load_that_collapsed_filtered_and_lost(load: Any, noon: datetime) -> None:
    busy(load, noon)
    loads = by_load(account(load.events, load.batches)).row(0, named=True)
    assert loads["holds"]
    assert (loads["rows_unaccounted"], loads["events_unaccounted"]) == (0, 0)
    assert (loads["lost_rows"], loads["lost_events"], loads["delivered_rows"], loads["delivered_events"]) == (
        2,
        5,
        5,
        13,
    )


def test_the_line_says_the_equation_in_words(load: Any, noon: datetime) -> None:
    busy(load, noon)
    assert accounting_line(account(load.events, load.batches)) == (
        "118 events seen = 13 delivered + 100 filtered + 5 lost + 0 pending; 0 unaccounted"
    )


def test_a_dropped_row_breaks_the_equations_and_is_named(load: Any, noon: datetime) -> None:
    busy(load, noon)
    victim = pl.col("cpu").eq(1) & pl.col("seq").eq(0)
    left = load.events.filter(~victim)
    loads = by_load(account(left, load.batches)).row(0, named=True)
    assert not loads["holds"]
    assert (loads["rows_unaccounted"], loads["events_unaccounted"]) == (1, 1)
    assert missing_rows(left, load.batches).to_dicts() == [
        {"agent_id": load.agent_id, "load_id": load.load_id, "cpu": 1, "seq": 0, "batch_seq": 1, "certain": True}
    ]


def test_a_row_missing_beside_known_losses_is_a_candidate_among_them(load: Any, noon: datetime) -> None:
    busy(load, noon)
    left = load.events.filter(~(pl.col("cpu").eq(0) & pl.col("seq").eq(4)))
    missing = missing_rows(left, load.batches)
    assert missing["seq"].to_list() == [2, 3, 4]
    assert not missing["certain"].any()


def test_nothing_is_missing_where_losses_cover_the_gap(load: Any, noon: datetime) -> None:
    busy(load, noon)
    assert missing_rows(load.events, load.batches).is_empty()


def test_a_surplus_on_one_cpu_does_not_hide_a_gap_on_another(load: Any, noon: datetime) -> None:
    for cpu in (0, 1):
        load.do(noon, cpu=cpu)
        load.do(noon, cpu=cpu)
    load.cut(noon + SECOND)
    moved = load.events.with_columns(
        cpu=pl.when(pl.col("cpu").eq(1) & pl.col("seq").eq(1)).then(pl.lit(0, dtype=pl.Int32)).otherwise("cpu"),
        seq=pl.when(pl.col("cpu").eq(1) & pl.col("seq").eq(1)).then(pl.lit(2)).otherwise("seq"),
    )
    loads = by_load(account(moved, load.batches)).row(0, named=True)
    assert loads["rows_unaccounted"] == 0
    assert not loads["holds"]


def test_quarantined_lines_count_as_delivered(load: Any, noon: datetime) -> None:
    load.do(noon, cpu=0, path="/broken")
    load.do(noon, cpu=1, path="/a\\x0a", count=4)
    load.do(noon, cpu=1)
    load.cut(noon + SECOND, broken=1, quarantine=lambda row: row["count"] == 4)
    accounting = account(load.events, load.batches, load.quarantine)
    assert by_load(accounting).row(0, named=True)["holds"]
    assert "6 delivered (5 of them in quarantine)" in accounting_line(accounting)
    assert accounting.filter(pl.col("cpu") == 1)["quarantined_events"].item() == 4
    assert accounting.filter(pl.col("cpu").is_null())["quarantined_rows"].item() == 1


@pytest.mark.parametrize(("node", "code"), [("node-2", "bad_type"), ("node-1", "batch_conflict")])
def test_a_conflicting_batchs_lines_are_not_delivered_twice(load: Any, noon: datetime, node: str, code: str) -> None:
    load.do(noon)
    load.cut(noon + SECOND)
    line = [
        *load.quarantine_rows,
        {
            "agent_id": load.agent_id,
            "load_id": load.load_id,
            "batch_seq": 1,
            "node": node,
            "segment_seq": 1,
            "code": code,
            "line": 2,
            "raw": "{}",
        },
    ]
    quarantine = pl.DataFrame(line, schema=load.quarantine.schema)
    assert by_load(account(load.events, load.batches, quarantine)).row(0, named=True)["holds"]


def test_between_any_two_batches_the_equations_hold_too(load: Any, noon: datetime) -> None:
    busy(load, noon)
    first, second = load.batches[:1], load.batches[1:]
    accounting = account(load.events, second, baseline=first)
    assert by_load(accounting).row(0, named=True)["holds"]
    assert accounting["delivered_rows"].sum() == 2
    assert "- 3 pending" in accounting_line(accounting)
    left = load.events.filter(~(pl.col("cpu").eq(1) & pl.col("seq").eq(1)))
    assert missing_rows(left, second, baseline=first)["seq"].to_list() == [1]


def test_a_batch_that_never_landed_is_a_hole_and_its_rows_are_unaccounted(load: Any, noon: datetime) -> None:
    for second in range(3):
        load.do(noon + second * SECOND)
        load.cut(noon + second * SECOND)
    batches, events = (frame.filter(pl.col("batch_seq") != 2) for frame in (load.batches, load.events))
    assert missing_batches(batches).select("first_seq", "last_seq").rows() == [(2, 2)]
    assert by_load(account(events, batches))["rows_unaccounted"].item() == 1
    assert missing_rows(events, batches)["seq"].to_list() == [1]


def test_a_load_whose_first_batch_never_landed_is_short_of_it(load: Any, noon: datetime) -> None:
    load.do(noon)
    load.cut(noon)
    load.do(noon)
    load.cut(noon + SECOND)
    events, batches = load.events.filter(pl.col("batch_seq") == 2), load.batches[1:]
    assert missing_batches(batches).select("first_seq", "last_seq").rows() == [(1, 1)]
    assert by_load(account(events, batches))["events_unaccounted"].item() == 1


def test_an_empty_ledger_accounts_for_nothing(load: Any) -> None:
    accounting = account(load.events, load.batches)
    assert accounting.is_empty()
    assert accounting_line(accounting).startswith("0 events seen = 0 delivered")


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("do"), st.integers(0, 1), st.integers(1, 5)),
        st.tuples(st.just("lose"), st.integers(0, 1), st.integers(1, 3)),
        st.tuples(st.just("filter"), st.integers(0, 1), st.integers(1, 9)),
        st.tuples(st.just("cut"), st.just(0), st.just(0)),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(actions=ACTIONS, drop=st.integers(0, 40))
def test_any_history_balances_and_any_one_row_dropped_is_found(
    actions: list[tuple[str, int, int]], drop: int, new_load: Any, noon: datetime
) -> None:
    load = new_load()
    at = noon
    for kind, cpu, number in actions:
        at += SECOND
        if kind == "do":
            load.do(at, cpu=cpu, count=number)
        elif kind == "lose":
            load.lose(cpu=cpu, rows=number, events=number + 1)
        elif kind == "filter":
            load.filter_out(number, cpu=cpu)
        else:
            load.cut(at)
    load.cut(at + SECOND)
    assert by_load(account(load.events, load.batches))["holds"].all()
    assert missing_rows(load.events, load.batches).is_empty()
    if drop < load.events.height:
        gone = load.events.row(drop, named=True)
        left = load.events.with_row_index().filter(pl.col("index") != drop).drop("index")
        assert by_load(account(left, load.batches))["rows_unaccounted"].item() == 1
        named = missing_rows(left, load.batches).select("cpu", "seq").rows()
        assert (gone["cpu"], gone["seq"]) in named
