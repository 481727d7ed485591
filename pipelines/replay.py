"""Replays a tenant's day: lands it once more from the staged segments that the ledger names, to the same checksum.

The ledger says which batches landed, from which segment and with which digest, so a replay decides nothing anew: it
reads exactly these, by the rules of landing, and puts the rows in the order of a sealed day. It exists only while all
of them are staged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import polars as pl
import pyarrow as pa

from kaimon.base.access import accessing
from lake.checksum import RowsChecksum
from lake.files import DataFile, StoredFile, drop_files, read_files
from lake.frames import to_rows
from lake.ordering import RANGE_ROWS, in_order, pieces_in_order
from lake.sealed import FILE_BYTES, seal_of
from lake.segments import Segment, SegmentError, read_segment, segment_key
from lake.stores import MissingError, open_store
from pipelines.landing.ledger import Outcome
from pipelines.landing.plan import landing_rows
from pipelines.landing.rules import BEHIND
from pipelines.progress import Progress
from pipelines.seal import TABLE, ChecksumError, build, is_over, kept_checksum, put_in_place
from pipelines.tables import TenantTables
from tenancy.audit import append
from tenancy.days import get, mark_open, set_sealed

_DAY: Final = timedelta(days=1)
_KEY: Final = ["node", "segment_seq", "segment_digest"]
_SHOWN: Final = 10
_UNREADABLE: Final = (pl.exceptions.PolarsError, pa.ArrowException, OSError)


class ReplayError(Exception):
    """The day cannot be landed again: a segment of it is not there or is another, or the day is not over."""


@dataclass(frozen=True)
class Replayed:
    """What a replay of a day comes to.

    `segments`, `segment_bytes`, `rows`, `events` and `checksum` are of what is staged; `files` and `table_rows` of the
    table as it was found, `table` the checksum of its rows (None: they cannot be read), `kept` the one that was kept
    when exactly these files were sealed (None: rows have landed since, or it was never sealed). `applied`: the day has
    been landed again, in `new_files` files.
    """

    day: date
    segments: int
    segment_bytes: int
    rows: int
    events: int
    checksum: str
    files: int
    table_rows: int
    table: str | None
    kept: str | None
    applied: bool = False
    new_files: int = 0

    @property
    def same(self) -> bool:
        """Whether the staged rows are those of the table, and of its seal if it has one."""
        return self.table == self.checksum and self.kept in {None, self.checksum}


@dataclass(frozen=True)
class _Sources:
    """A day at one moment: the ledger's rows whose batches may have brought events of it, and its files."""

    ledger: pl.DataFrame
    files: list[StoredFile]
    version: int | None


def replay_day(
    tables: TenantTables,
    day: date,
    *,
    apply: bool = False,
    even_if_different: bool = False,
    range_rows: int = RANGE_ROWS,
    file_bytes: int = FILE_BYTES,
) -> Replayed:
    """Read a day from what is staged and hold it against the table; with `apply`, put it in the table's place.

    Args:
        tables: the tenant's.
        day: which; it must be over.
        apply: without it nothing is changed.
        even_if_different: put it in place although its checksum is another; the day is then to be closed again.
        range_rows: rows that are in memory at a time, about.
        file_bytes: when a file is full.

    Raises:
        ReplayError: the day cannot be landed again; nothing has changed.
        ChecksumError: `apply`, and the checksums differ; nothing has changed.
        lake.commits.CommitError: another writer took over or replaced the day; nothing has changed.
        lake.segments.SegmentError: a segment's rows cannot be read; nothing has changed.
        lake.stores.StoreError: a store failed; nothing has changed.
        tenancy.leases.LeaseHeldError: the lease did not come free in time; nothing has changed.
    """
    if not is_over(day, tables.db.clock()):
        raise ReplayError(f"{day} is not over")
    sources = _sources(tables, day)
    progress, of = Progress("replay", tables.tenant, day=day), sum(file.rows for file in sources.files)
    table = None if not sources.files else _checksum(tables, sources.files, range_rows, progress)
    reader = _Reader(tables, sources.ledger, day)
    with accessing("run", "replay", tables.tenant, object=day.isoformat()) as said:
        pieces = progress.watch("read", reader.pieces(), of)
        parts = progress.watch("write", pieces_in_order(pieces, tables.settings, range_rows=range_rows), of)
        new: list[DataFile] = []
        if apply:
            new, told = build(tables, day, parts, file_bytes)
            rows, events, checksum = (told[name].item() for name in ("rows", "events", "checksum"))
        else:
            rows, events, checksum = _summed(parts)
        said.count = rows
    empty = RowsChecksum(TABLE).hexdigest()
    found = Replayed(
        day=day,
        segments=reader.segments,
        segment_bytes=reader.bytes,
        rows=rows,
        events=events,
        checksum=checksum,
        files=len(sources.files),
        table_rows=sum(file.rows for file in sources.files),
        table=table if sources.files else empty,
        kept=kept_checksum(tables, day, sources.files),
        applied=apply,
        new_files=len(new),
    )
    if apply:
        if not found.same and not even_if_different:
            drop_files(tables.tenant, TABLE, new, tables.settings)
            raise ChecksumError(different(found))
        _apply(tables, found, sources, new, told)
    return found


def different(found: Replayed) -> str:
    """Return in words how a day's checksums differ."""
    table = "which cannot be read" if found.table is None else f"to {found.table}"
    kept = f"; {found.kept} was kept at its seal" if found.kept else ""
    return (
        f"{found.day}: DIFFERENT: {found.rows:,} staged rows come to {found.checksum}, "
        f"the table's {found.table_rows:,} {table}{kept}"
    )


def _apply(
    tables: TenantTables, found: Replayed, sources: _Sources, new: Sequence[DataFile], told: pl.DataFrame
) -> None:
    with tables.db.transaction() as session:
        counts = {"rows": found.rows, "segments": found.segments, "same": int(found.same)}
        append(tables.db, session, tables.tenant, "day.replay", found.day.isoformat(), **counts)
    if not found.same:
        # What was checked and told of the day may be wrong: it is closed again.
        mark_open(tables.db, tables.tenant, [found.day])
    put_in_place(tables, found.day, sources.files, new, told, same_rows=found.same)
    if found.same and sources.version is not None:
        set_sealed(tables.db, tables.tenant, found.day, sources.version)


def _sources(tables: TenantTables, day: date) -> _Sources:
    """Read the ledger and the day's files while nobody writes.

    Raises:
        ReplayError: a landing has died half-way: the two do not belong together.
    """
    start = datetime.combine(day, time(), UTC)
    nodes = open_store("staging", tables.settings).prefixes(tables.tenant)
    with tables.writer() as writer:
        if writer.versions(TABLE, nodes) != writer.versions("batches", nodes):
            raise ReplayError(f"{day}: a landing was cut off; let it be finished: kaimon land --tenant {tables.tenant}")
        state = get(tables.db, tables.tenant, day)
        snapshot = tables.unlocked("batches")
        files = read_files(tables.tenant, TABLE, day, tables.settings)
    touching = (pl.col("first_time") < start + _DAY) & (pl.col("last_time") >= start)
    # Lines that left quarantine keep the arrival of their batch, which may be far from their own time.
    near = snapshot.scan("batches", day - _DAY, day + BEHIND + _DAY).filter(pl.col("outcome") == "landed")
    left = snapshot.scan("batches").filter(pl.col("outcome") == "replayed")
    ledger = pl.concat([near, left]).filter(touching).collect()
    return _Sources(ledger, files, None if state is None else state.version)


class _Reader:
    """Reads a day's rows from the segments that its ledger names."""

    def __init__(self, tables: TenantTables, ledger: pl.DataFrame, day: date) -> None:
        self.segments = 0
        self.bytes = 0
        self._tables, self._day = tables, day
        self._store = open_store("staging", tables.settings)
        self._landed = {
            (node, seq, agent, load, number, outcome)
            for node, seq, agent, load, number, outcome in ledger.select(
                "node", "segment_seq", "agent_id", "load_id", "batch_seq", "outcome"
            ).iter_rows()
        }
        self._wanted = ledger.select(_KEY).unique().sort(_KEY).rows()

    def pieces(self) -> Iterator[pl.DataFrame]:
        """Yield the day's rows, segment after segment.

        Raises:
            ReplayError: segments are not there, or are others; all of them were looked at.
        """
        wrong: list[str] = []
        for node, seq, digest in self._wanted:
            key = segment_key(self._tables.tenant, node, seq)
            try:
                data = self._store.get(key)
                segment = read_segment(data)
            except MissingError:
                wrong.append(f"{key} is gone")
                continue
            except SegmentError as error:
                wrong.append(f"{key}: {error}")
                continue
            if segment.digest != digest:
                wrong.append(f"{key} is not what landed: its digest is {segment.digest}, the ledger's {digest}")
                continue
            self.segments += 1
            self.bytes += len(data)
            if not wrong:
                yield self._rows(segment)
        if wrong:
            more = f" and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
            raise ReplayError(f"{self._day} cannot be landed again: {'; '.join(wrong[:_SHOWN])}{more}")

    def _rows(self, segment: Segment) -> pl.DataFrame:
        try:
            return landing_rows(segment, self._verdict(segment)).filter(pl.col("event_day") == self._day).collect()
        except pl.exceptions.PolarsError as error:
            raise SegmentError(f"{segment.node}/{segment.seq}: rows cannot be read: {error}") from error

    def _verdict(self, segment: Segment) -> list[Outcome]:
        """Return what became of each batch: of copies in one segment the first landed."""
        left = set(self._landed)
        verdict: list[Outcome] = []
        for record in segment.batches:
            outcome: Outcome = "landed" if record.replay_of is None else "replayed"
            place = (segment.node, segment.seq, *record.identity, outcome)
            verdict.append(outcome if place in left else "duplicate")
            left.discard(place)
        return verdict


def _checksum(tables: TenantTables, files: Sequence[StoredFile], range_rows: int, progress: Progress) -> str | None:
    """Return the checksum of the rows of some files in order; None if they cannot be read."""
    ordered = frozenset(file.path for file in files if seal_of(file))
    parts = in_order(tables.tenant, TABLE, files, tables.settings, is_ordered=ordered, range_rows=range_rows)
    try:
        return _summed(progress.watch("table", parts, sum(file.rows for file in files)))[2]
    except _UNREADABLE:
        return None


def _summed(parts: Iterator[pl.DataFrame]) -> tuple[int, int, str]:
    """Return rows, events and checksum of rows that come in order."""
    checksum, rows, events = RowsChecksum(TABLE), 0, 0
    for part in parts:
        checksum.add(to_rows(part, TABLE))
        rows, events = rows + part.height, events + int(part["count"].sum())
        # Or else it would stay until the next range is made.
        del part
    return rows, events, checksum.hexdigest()
