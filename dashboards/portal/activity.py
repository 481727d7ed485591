"""Events as rows, filtered, in pages that stay put while new rows land, without sorting days; and as inert CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import polars as pl

from dashboards.portal.scope import TenantScope
from kaimon.base.sheets import no_formula
from lake.reads import scan
from lake.settings import LakeSettings

PAGE_ROWS: Final = 100
CSV_ROWS: Final = 10_000
MOST_DAYS: Final = 31
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FILTERS: Final = ("hostname", "operation", "path", "process", "user")
SHOWN: Final = ("time", "hostname", "operation", "path", "target_path", "process", "user", "result", "count")
_KEY: Final = ("agent_id", "load_id", "cpu", "seq")


@dataclass(frozen=True)
class Rows:
    """Newest first; `cursor` names the last row if there are more."""

    rows: list[dict[str, Any]]
    cursor: str | None


def rows_of(
    scope: TenantScope,
    day: date,
    query: Mapping[str, str],
    most: int,
    lake: LakeSettings,
    *,
    first_day: date | None = None,
) -> Rows:
    """Return at most `most` rows, those after `query["after"]`; `path` is a prefix, other filters exact.

    Days are opened one by one, the newest first, until there are enough rows.

    Args:
        scope: whose events.
        day: UTC; the last that counts.
        query: filters and cursor.
        most: rows of a page.
        lake: where the lake is.
        first_day: the first that counts; `day` alone if None.

    Raises:
        ValueError: the cursor is not one, or the days are no span of at most `MOST_DAYS`.
    """
    first_day = first_day or day
    if not 0 <= (day - first_day).days < MOST_DAYS:
        raise ValueError(f"Ask for at most {MOST_DAYS} days, the first no later than the last.")
    wanted = [_fits(name, query[name]) for name in FILTERS if query.get(name)]
    if after := query.get("after", ""):
        wanted.append(_older(after))
        day = min(day, _day_of(after))
    parts: list[pl.DataFrame] = []
    missing = most + 1
    while missing > 0 and day >= first_day:
        parts.append(_newest(scan(scope.tenant_id, "events", day, day, lake).filter(*wanted), missing))
        missing -= parts[-1].height
        day -= timedelta(days=1)
    found = pl.concat(parts) if parts else pl.DataFrame()
    rows = found.head(most).to_dicts()
    return Rows(rows, _cursor(rows[-1]) if found.height > most else None)


def _newest(frame: pl.LazyFrame, most: int) -> pl.DataFrame:
    # The times alone first: they tell from when on rows can count, and all other columns are read of those rows only.
    times = frame.select(pl.col("time").top_k(most).min()).collect().item()
    order = ("time", *_KEY)
    rows = frame.filter(pl.col("time") >= pl.lit(times, pl.Datetime("us", "UTC")))
    return rows.select(*SHOWN, *_KEY).sort(order, descending=[True, *[False] * len(_KEY)]).head(most).collect()


def _day_of(cursor: str) -> date:
    try:
        return (_EPOCH + timedelta(microseconds=int(cursor.partition("~")[0]))).date()
    except OverflowError as error:
        raise ValueError("The page's address names no time.") from error


def _fits(name: str, wanted: str) -> pl.Expr:
    column = pl.col(name)
    return column.str.starts_with(wanted) if name == "path" else column == wanted


def as_csv(rows: Rows) -> str:
    """Return the rows as CSV; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(SHOWN)
    for row in rows.rows:
        writer.writerow([_cell(row[name]) for name in SHOWN])
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return no_formula(value) if isinstance(value, str) else value


def _cursor(row: Mapping[str, Any]) -> str:
    micros = (row["time"] - _EPOCH) // timedelta(microseconds=1)
    return "~".join([str(micros), *(str(row[name]) for name in _KEY)])


def _older(cursor: str) -> pl.Expr:
    micros, agent, load, cpu, seq = cursor.split("~")
    time = pl.lit(int(micros)).cast(pl.Datetime("us", "UTC"))
    values: dict[str, Any] = {"agent_id": agent, "load_id": load, "cpu": int(cpu), "seq": int(seq)}
    after, same = pl.col("time") < time, pl.col("time") == time
    for name, value in values.items():
        after |= same & (pl.col(name) > value)
        same &= pl.col(name) == value
    return after
