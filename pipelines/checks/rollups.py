"""A day's rollups against its events: nulls, values, hours, keys, and sums that must be those of the rows."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

import polars as pl

from lake.columns import CAUSES
from lake.frames import frame_schema
from lake.schema import TABLES
from pipelines.rollups.activity import DENIED
from pipelines.rollups.actors import TOP
from pipelines.rollups.sensitive import is_sensitive, pattern_of

_TOUCH: Final = ["agent_id", "process", "exe", "path"]
KEYS: Final = {
    "activity": ["hour", "agent_id", "operation"],
    "completeness": ["hour", "agent_id"],
    "top_paths": ["path"],
    "processes": ["agent_id", "process", "exe"],
    "users": ["agent_id", "uid", "login_uid"],
    "sensitive": _TOUCH,
    "new_behaviour": _TOUCH,
}
"""What names a row of a day, in every rollup."""

_POSITIVE: Final = frozenset({"events", "rows", "paths", "hosts", "processes", "users"})
_Totals = dict[str, int]


def totals_of(events: pl.LazyFrame) -> _Totals:
    """Return what the sums of a day's rollups must come to: its rows, occurrences, refused and sensitive ones."""
    count, path, led = pl.col("count"), pl.col("path"), pl.col("target_path")
    also = is_sensitive(led) & (led != path)
    told = events.select(
        rows=pl.len(),
        events=count.sum(),
        denied=count.filter(pl.col("result").is_in(DENIED)).sum(),
        sensitive=count.filter(is_sensitive(path)).sum() + count.filter(also).sum(),
    ).collect(engine="streaming")
    return {name: int(value) for name, value in told.row(0, named=True).items()}


def rollup_metrics(table: str, rolled: pl.LazyFrame, day: date, totals: _Totals, touched: pl.DataFrame) -> _Totals:
    """Measure one rollup's rows of a day: by how much each of its rules is broken.

    Args:
        table: one of `KEYS`.
        rolled: its rows of the day.
        day: the UTC day.
        totals: `totals_of` the day's events.
        touched: `sensitive` of the day, on which `new_behaviour` rests.
    """
    if problems := _schema_problems(table, rolled):
        return {f"{table}_schema": problems}
    rows = rolled.collect()
    measured = rows.select(
        nulls=pl.sum_horizontal(pl.col([one.name for one in TABLES[table].columns if not one.nullable]).null_count()),
        outside_domain=pl.sum_horizontal([pl.lit(0), *_outside_domain(table)]),
        outside_day=pl.sum_horizontal([pl.lit(0), *_outside_day(table, day)]),
        doubled=pl.len() - pl.struct(KEYS[table]).n_unique(),
    ).row(0, named=True)
    told = measured | {"schema": 0, "difference": _difference(table, rows, totals, touched)}
    return {f"{table}_{name}": int(value) for name, value in told.items()}


def _schema_problems(table: str, rolled: pl.LazyFrame) -> int:
    try:
        found = rolled.collect_schema()
    except pl.exceptions.ColumnNotFoundError:
        return 1
    wanted: dict[str, Any] = dict(frame_schema(table))
    return sum(1 for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def _outside_domain(table: str) -> list[pl.Expr]:
    names = set(frame_schema(table).names())
    wrong = [~pl.col(one.name).is_in(one.domain) for one in TABLES[table].columns if one.domain]
    wrong += [pl.col(name) < 1 for name in sorted(_POSITIVE & names)]
    if "denied" in names:
        wrong.append(~pl.col("denied").is_between(0, pl.col("events")))
    if "rows" in names:
        wrong.append(pl.col("rows") > pl.col("events"))
    if "first_time" in names:
        wrong.append(pl.col("first_time") > pl.col("last_time"))
    if "hour" in names:
        wrong.append(pl.col("hour") != pl.col("hour").dt.truncate("1h"))
    if "covered_s" in names:
        # Machines under one identity vouch for the same hour twice: no upper bound.
        wrong += [pl.col("covered_s") < 0, pl.col("captured") < 0]
    if "rank" in names:
        wrong += [pl.col("rank").sort() != pl.int_range(1, pl.len() + 1), pl.col("rank") > TOP]
    if "pattern" in names:
        wrong.append(pl.col("pattern").ne_missing(pattern_of(pl.col("path"))))
    return [one.sum() for one in wrong]


def _outside_day(table: str, day: date) -> list[pl.Expr]:
    times = [name for name in ("hour", "first_time", "last_time") if name in frame_schema(table)]
    return [(pl.col(name).dt.date() != day).sum() for name in times] + [(pl.col("event_day") != day).sum()]


def _difference(table: str, rows: pl.DataFrame, totals: _Totals, touched: pl.DataFrame) -> int:
    if table == "completeness":
        known = pl.sum_horizontal("captured", "filtered", "pending", "unaccounted", *(f"lost_{one}" for one in CAUSES))
        return int(rows.select((pl.col("seen") - known).abs().sum()).item())
    if table == "new_behaviour":
        return rows.join(touched, on=rows.columns, how="anti", nulls_equal=True).height
    if table == "sensitive":
        return abs(int(rows["events"].sum()) - totals["sensitive"])
    off = [int(rows[name].sum()) - totals[name] for name in ("events", "rows", "denied")]
    # The first thousand paths are some of a day that has more, and cannot be more than all.
    return sum(max(one, 0) if table == "top_paths" and rows.height == TOP else abs(one) for one in off)
