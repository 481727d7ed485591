"""Events as rows, in pages that stay put while new rows land, without sorting days; and as inert CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dashboards.portal.question import SHOWN, Question, cursor, cursor_of, moment, moment_of
from dashboards.portal.scope import TenantScope
from kaimon.base.problems import Problem
from kaimon.base.sheets import no_formula
from lake.frames import frame_schema
from lake.lookup import KEY, newest
from lake.query import QueryError, run_query
from lake.reads import scan_days
from lake.settings import LakeSettings

PAGE_ROWS: Final = 100
FILE_ROWS: Final = 10_000


@dataclass(frozen=True)
class Rows:
    """Newest first; `cursor` names the last row if there are more."""

    rows: list[dict[str, Any]]
    cursor: str | None


def rows_of(scope: TenantScope, question: Question, most: int, lake: LakeSettings, after: str = "") -> Rows:
    """Return at most `most` rows, those after the one that `after` names.

    Days are opened one by one, the newest first, until there are enough rows; if the question is about a path, ever
    more at a time, and of them only what can hold it.

    Raises:
        ValueError: `after` is no cursor.
    """
    if question.by_path:
        return _page(newest(scope.tenant_id, question.asked(after), SHOWN, most + 1, lake), most)
    wanted, day = question.where(), question.last_day
    if after:
        wanted.append(_older(after))
        day = min(day, moment_of(after).date())
    parts: list[pl.DataFrame] = []
    missing = most + 1
    for frame in scan_days(scope.tenant_id, "events", question.first_day, day, lake):
        parts.append(_newest(frame.filter(*wanted), missing))
        missing -= parts[-1].height
        if missing <= 0:
            break
    return _page(pl.concat(parts) if parts else pl.DataFrame(), most)


def _page(found: pl.DataFrame, most: int) -> Rows:
    rows = found.head(most).to_dicts()
    return Rows(rows, cursor(rows[-1]) if found.height > most else None)


def _newest(frame: pl.LazyFrame, most: int) -> pl.DataFrame:
    # The times alone first: they tell from when on rows can count, and all other columns are read of those rows only.
    times = frame.select(pl.col("time").top_k(most).min()).collect().item()
    order = ("time", *KEY)
    if times is None:
        return pl.DataFrame(schema={name: frame_schema("events")[name] for name in (*SHOWN, *KEY)})
    rows = frame.filter(pl.col("time") >= pl.lit(times, pl.Datetime("us", "UTC")))
    return rows.select(*SHOWN, *KEY).sort(order, descending=[True, *[False] * len(KEY)]).head(most).collect()


def table_of(scope: TenantScope, question: Question, lake: LakeSettings) -> pa.Table:
    """Return the newest `FILE_ROWS` rows of a question, or as many as a query may return, within its time and memory.

    Raises:
        Problem: 422, it met a limit.
    """
    most = min(FILE_ROWS, lake.query_row_limit)
    try:
        # A query sorts all that its range holds: it is given no more of it than its rows can be in.
        first = _oldest(scope, question, most, lake)
        return run_query(scope.tenant_id, question.sql(most), first, question.last, lake).table
    except QueryError as error:
        raise Problem(422, "query_limit", "The query was given up", f"{error}; ask for less.") from error


def _oldest(scope: TenantScope, question: Question, most: int, lake: LakeSettings) -> datetime:
    """Return a time from which on the newest `most` rows are, by reading times and what is filtered by alone."""
    wanted, missing = question.where(), most
    for frame in scan_days(scope.tenant_id, "events", question.first_day, question.last_day, lake):
        times = frame.filter(*wanted).select(pl.col("time").top_k(missing)).collect()["time"]
        missing -= times.len()
        if missing <= 0:
            oldest: datetime = min(times.to_list())
            return oldest
    return question.first


def as_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Return rows as CSV; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(SHOWN)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in SHOWN])
    return text.getvalue()


def as_parquet(table: pa.Table) -> bytes:
    """Return rows as one Parquet file, values as they are: whoever reads it reads no formulas."""
    target = pa.BufferOutputStream()
    pq.write_table(table, target, compression="zstd")
    return bytes(target.getvalue().to_pybytes())


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return no_formula(value) if isinstance(value, str) else value


def _older(after: str) -> pl.Expr:
    values: dict[str, Any] = dict(zip(KEY, cursor_of(after)[1:], strict=True))
    time = moment(moment_of(after))
    older, same = pl.col("time") < time, pl.col("time") == time
    for name, value in values.items():
        older |= same & (pl.col(name) > value)
        same &= pl.col(name) == value
    return older
