"""The rules of `quarantine` and `hosts`: each number finds what it is for, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from lake.frames import frame_schema
from pipelines.checks.rules import RULES
from pipelines.checks.side_tables import host_metrics, quarantine_metrics


@pytest.fixture
def quarantine(load: Any, noon: Any) -> pl.DataFrame:
    for _ in range(4):
        load.do(noon)
    load.cut(noon, broken=2, quarantine=lambda row: row["seq"] == 3)
    frame: pl.DataFrame = load.quarantine
    assert frame.height == 3
    return frame


@pytest.fixture
def hosts(noon: Any) -> pl.DataFrame:
    texts = dict.fromkeys((name for name, kind in frame_schema("hosts").items() if kind == pl.String), "x")
    row = texts | {"blind_spots": [], "first_seen": noon, "last_seen": noon}
    return pl.DataFrame([row | {"agent_id": agent} for agent in ("a", "b")], schema=frame_schema("hosts"))


@pytest.fixture
def day_batches() -> pl.DataFrame:
    return pl.DataFrame({"agent_id": ["a", "b", "c"], "outcome": ["landed", "landed", "duplicate"]})


def broken(measured: dict[str, int]) -> dict[str, int]:
    assert measured.keys() <= {rule.metric for rule in RULES}
    return {rule: number for rule, number in measured.items() if number}


def test_good_tables_break_no_rule(quarantine: pl.DataFrame, hosts: pl.DataFrame, day_batches: pl.DataFrame) -> None:
    assert broken(quarantine_metrics(quarantine)) == {}
    assert broken(quarantine_metrics(quarantine.clear())) == {}
    assert broken(host_metrics(hosts, day_batches)) == {}
    assert broken(host_metrics(hosts.clear(), day_batches.clear())) == {}


def test_a_line_that_left_quarantine_is_there_twice_and_that_is_well(quarantine: pl.DataFrame) -> None:
    mark = quarantine.head(1).with_columns(code=pl.lit("replayed"))
    assert broken(quarantine_metrics(pl.concat([quarantine, mark]))) == {}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"raw": pl.lit(None, pl.String)}, "quarantine_nulls"),
        ({"line": pl.lit(0, pl.Int64)}, "quarantine_outside_domain"),
        ({"batch_seq": pl.lit(0, pl.Int64)}, "quarantine_outside_domain"),
        ({"code": pl.lit("")}, "quarantine_outside_domain"),
    ],
)
def test_a_wrong_line_breaks_its_rule(quarantine: pl.DataFrame, change: dict[str, pl.Expr], rule: str) -> None:
    wrong = pl.concat([quarantine.head(1).with_columns(**change), quarantine.tail(2)])
    assert broken(quarantine_metrics(wrong)) == {rule: 1}


def test_a_line_that_is_there_twice_breaks_its_rule(quarantine: pl.DataFrame) -> None:
    assert broken(quarantine_metrics(pl.concat([quarantine, quarantine.head(1)]))) == {"quarantine_doubled": 1}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"kernel": pl.lit(None, pl.String)}, None),
        ({"boot_id": pl.lit(None, pl.String)}, "hosts_nulls"),
        ({"hostname": pl.lit("")}, "hosts_outside_domain"),
        ({"last_seen": pl.col("first_seen") - timedelta(seconds=1)}, "hosts_outside_domain"),
    ],
)
def test_a_wrong_host_breaks_its_rule(
    hosts: pl.DataFrame, day_batches: pl.DataFrame, change: dict[str, pl.Expr], rule: str | None
) -> None:
    wrong = pl.concat([hosts.head(1).with_columns(**change), hosts.tail(1)])
    assert broken(host_metrics(wrong, day_batches)) == ({} if rule is None else {rule: 1})


def test_a_host_twice_and_a_sender_that_is_no_host_break_theirs(hosts: pl.DataFrame, day_batches: pl.DataFrame) -> None:
    assert broken(host_metrics(pl.concat([hosts, hosts.head(1)]), day_batches)) == {"hosts_doubled": 1}
    assert broken(host_metrics(hosts.head(1), day_batches)) == {"hosts_missing": 1}
