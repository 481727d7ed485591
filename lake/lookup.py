"""Events by their path, over many days: of sealed days only what can hold the path is opened.

Row groups are left shut whose statistics leave no such path possible, and of the others such pages. That is why this
asks the one engine here that knows the page index: Polars and DuckDB go by row groups. Of days that are not sealed,
everything is read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from kaimon.base.access import accessing
from lake.frames import frame_schema
from lake.settings import LakeSettings
from lake.tables import silent_table

KEY: Final = ("agent_id", "load_id", "cpu", "seq")
"""What names a row: no other of the tenant has the same."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Asked:
    """Events of whole UTC days, and of their times from `since` and before `until`, that fit all that is given.

    `begins` is how a path begins; `file` a whole one, where a rename, link or symlink led too; `equal` are other
    columns' values. `after` is the time and the `KEY` of a row: only rows that come after it, the newest first.
    """

    first_day: date
    last_day: date
    begins: str | None = None
    file: str | None = None
    equal: Mapping[str, str | int] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    after: tuple[datetime, Sequence[str | int]] | None = None

    def conditions(self) -> list[str]:
        """Return SQL's conditions: a row fits if it fits one, and fits no two of them."""
        both = [f'"{name}" = {_literal(value)}' for name, value in self.equal.items()]
        if self.begins:
            both.append(f"path >= {_literal(self.begins)}")
            # A range of paths and nothing else: these are words by which statistics leave parts shut.
            if (end := above(self.begins)) is not None:
                both.append(f"path < {_literal(end)}")
        both += [f"time >= {_moment(self.since)}"] if self.since else []
        both += [f"time < {_moment(self.until)}"] if self.until else []
        if self.after is not None:
            time, key = self.after
            both.append(f"(time < {_moment(time)} OR (time = {_moment(time)} AND {_beyond(KEY, key)}))")
        if self.file is None:
            return [" AND ".join(both) or "true"]
        # Apart, since pages are told by one column at a time: an OR of two would open them all.
        path = _literal(self.file)
        return [" AND ".join([one, *both]) for one in (f"path = {path}", f"target_path = {path} AND path <> {path}")]


def touches(
    tenant: str, path: str, first_day: date, last_day: date, settings: LakeSettings | None = None
) -> pl.DataFrame:
    """Return the events that happened to a path, and those that led to it (renames, links, symlinks), by time.

    Args:
        tenant: whose events.
        path: as the tables have it: absolute, odd bytes escaped.
        first_day: UTC; the first that counts.
        last_day: the last.
        settings: where the lake is.
    """
    schema = frame_schema("events")
    with accessing("storage", "lake.read", tenant, f"events/{first_day}..{last_day}") as told:
        handle = silent_table(tenant, "events", settings)
        if handle is None:
            return pl.DataFrame(schema=schema)
        rows = _ask(handle, _union(_columns(schema.names()), Asked(first_day, last_day, file=path)))
        told.count = rows.height
    return _typed(rows, schema.names()).sort("time", "agent_id", "cpu", "seq")


def newest(
    tenant: str, asked: Asked, columns: Sequence[str], most: int, settings: LakeSettings | None = None
) -> pl.DataFrame:
    """Return the newest `most` rows that are asked for, those of one time in the order of `KEY`.

    Ever more days are opened at a time, the newest first, until there are enough rows.

    Args:
        tenant: whose events.
        asked: which.
        columns: what of them; `time` and `KEY` come too.
        most: rows.
        settings: where the lake is.
    """
    names = list(dict.fromkeys([*columns, "time", *KEY]))
    parts = [pl.DataFrame(schema={name: frame_schema("events")[name] for name in names})]
    with accessing("storage", "lake.read", tenant, f"events/{asked.first_day}..{asked.last_day}") as told:
        handle = silent_table(tenant, "events", settings)
        for first, last in _growing(asked.first_day, asked.last_day):
            if handle is None:
                break
            of, ordered = _union(_columns(names), asked, first, last), f"ORDER BY time DESC, {_columns(KEY)}"
            rows = _ask(handle, f"SELECT * FROM ({of}) {ordered} LIMIT {most}")  # noqa: S608 - as `_union`
            parts.append(_typed(rows, names))
            most -= rows.height
            if most <= 0:
                break
        told.count = sum(part.height for part in parts)
    return pl.concat(parts)


def counted(tenant: str, asked: Asked, width: timedelta, settings: LakeSettings | None = None) -> dict[datetime, int]:
    """Return how many occurrences there are of what is asked for, by the start of each `width` of time that has any."""
    micros = width // timedelta(microseconds=1)
    with accessing("storage", "lake.read", tenant, f"events/{asked.first_day}..{asked.last_day}"):
        handle = silent_table(tenant, "events", settings)
        if handle is None:
            return {}
        start = f"arrow_cast(time, 'Int64') / {micros}"
        of = _union(f'{start} AS start, "count" AS occurrences', asked)
        found = _ask(handle, f"SELECT start, sum(occurrences) FROM ({of}) GROUP BY start")  # noqa: S608
    return {_EPOCH + number * width: int(events) for number, events in found.iter_rows()}


def above(prefix: str) -> str | None:
    """Return the least text above all that begin with `prefix`, in the order of code points, None if there is none."""
    head = prefix.rstrip(chr(sys.maxunicode))
    if not head:
        return None
    following = ord(head[-1]) + 1
    return head[:-1] + chr(0xE000 if following == 0xD800 else following)


def _growing(first: date, last: date) -> Iterator[tuple[date, date]]:
    """Cut days into parts, the newest first, each of twice as many: many questions are answered by the first."""
    days = 1
    while last >= first:
        begin = max(first, last - timedelta(days=days - 1))
        yield begin, last
        last, days = begin - timedelta(days=1), days * 2


def _union(columns: str, asked: Asked, first: date | None = None, last: date | None = None) -> str:
    first, last = first or asked.first_day, last or asked.last_day
    days = f"event_day BETWEEN DATE '{first.isoformat()}' AND DATE '{last.isoformat()}'"
    # Our own words, numbers, and quoted texts.
    return " UNION ALL ".join(
        f"SELECT {columns} FROM events WHERE {days} AND {condition}"  # noqa: S608
        for condition in asked.conditions()
    )


def _ask(handle: DeltaTable, sql: str) -> pl.DataFrame:
    stream: Any = QueryBuilder().register("events", handle).execute(sql)
    # Through Arrow, which lets other threads run meanwhile; the stream's own `read_all` does not.
    return pl.DataFrame(pa.RecordBatchReader.from_stream(stream).read_all())


def _typed(rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    schema = frame_schema("events")
    return rows.select(pl.col(name).cast(schema[name]) for name in names)


def _columns(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _beyond(names: Sequence[str], values: Sequence[str | int]) -> str:
    """Say whether a row's key comes after another."""
    told = "false"
    for name, value in reversed(list(zip(names, values, strict=True))):
        told = f'("{name}" > {_literal(value)} OR ("{name}" = {_literal(value)} AND {told}))'
    return told


def _moment(when: datetime) -> str:
    micros = (when - _EPOCH) // timedelta(microseconds=1)
    return f"arrow_cast({micros}, 'Timestamp(Microsecond, Some(\"UTC\"))')"


def _literal(value: str | int) -> str:
    """Return a value as SQL's literal: in a text the quote is the only character that means something."""
    return str(int(value)) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
