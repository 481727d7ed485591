"""What a group of segments becomes: rows of `events`, `quarantine` and `batches`, from their bytes and the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from kaimon.base.escape import escape
from lake.frames import frame_schema
from lake.quarantined import REPLAYED
from lake.schema import EVENTS
from lake.segments import Segment
from pipelines.landing.ledger import Identity, Outcome, ledger_rows, outcomes
from pipelines.landing.rules import AHEAD, BEHIND, RULED, all_hold, judge

_LINE: Final = tuple(column for column in EVENTS if column.source == "event")
_BATCH: Final = ["agent_id", "load_id", "batch_seq"]
_PLACE: Final = ["batch", "line"]
_QUARANTINE: Final = frame_schema("quarantine")
_NOTHING: Final = pl.DataFrame(schema=_QUARANTINE)
_BROUGHT: Final = {"agent_id": pl.String, "load_id": pl.String, "batch_seq": pl.Int64, "len": pl.UInt32}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KEPT: Final[tuple[Outcome, ...]] = ("landed", "replayed")
_LEFT: Final = "has left quarantine"
_CONFLICT: Final = "another batch of this number, with other contents, has landed"


@dataclass(frozen=True)
class Day:
    """One day's rows of a group: how many, the range of their times, and where they are; read as they are used."""

    rows: int
    first: datetime
    last: datetime
    sources: Sequence[_Source]

    def parts(self) -> Iterator[pa.Table]:
        """Yield the rows, segment after segment: `EVENTS` but for the day, and other columns.

        Raises:
            lake.segments.SegmentError: a segment's bytes are damaged.
        """
        return (source.rows() for source in self.sources)


@dataclass(frozen=True)
class _Source:
    """Rows of a segment: all, or those of `only` (`batch`, `line`)."""

    segment: Segment
    only: pl.DataFrame | None = None

    def rows(self) -> pa.Table:
        table = self.segment.table()
        if self.only is None:
            return table
        there = pl.DataFrame(table.select(_PLACE)).with_row_index("index")
        kept = there.join(self.only, on=_PLACE, how="semi", maintain_order="left")["index"]
        return _forgetful(table.take(pa.array(kept.to_numpy())))


@dataclass(frozen=True)
class Plan:
    """Rows of three tables, in order of node, sequence and position; `targets` is the last sequence of each node.

    `days` are the rows of `events` by partition, `by_batch` how many each landed batch brings there (`agent_id`,
    `load_id`, `batch_seq`, `len`). The same segments and the same ledger give the same plan, but for
    `batches.landed_at`.
    """

    targets: dict[str, int]
    days: dict[date, Day]
    by_batch: pl.DataFrame
    quarantine: pl.DataFrame
    batches: pl.DataFrame

    @property
    def rows(self) -> int:
        """Rows of `events`."""
        return sum(day.rows for day in self.days.values())

    @cached_property
    def touched(self) -> set[date]:
        """The UTC days that this touches: of its events, and of its landed batches' cutting and arrival."""
        outcomes_ = self.batches["outcome"].to_list()
        kept = self.batches if set(outcomes_) <= set(_KEPT) else self.batches.filter(pl.col("outcome").is_in(_KEPT))
        return set(self.days) | batch_days(kept)


def batch_days(batches: pl.DataFrame) -> set[date]:
    """Return the days on which these batches arrived, and those on which they were cut if their clock is credible."""
    cut = zip(batches["sent_at"].to_list(), batches["received_at"].to_list(), strict=True)
    credible = {sent.date() for sent, received in cut if sent and received - BEHIND <= sent <= received + AHEAD}
    return credible | set(batches["received_day"].to_list())


def plan(segments: Sequence[Segment], known: Mapping[Identity, str], landed_at: datetime) -> Plan:
    """Sort out a group of segments.

    Args:
        segments: by node and sequence, each node's without a gap.
        known: digests of landed batches, at least of those in the segments that have landed.
        landed_at: what the ledger is to say about when.
    """
    verdicts = outcomes(segments, known)
    sorted_out = [_sort_out(segment, verdict) for segment, verdict in zip(segments, verdicts, strict=True)]
    counts = {
        (segment.node, segment.seq, index): count
        for segment, part in zip(segments, sorted_out, strict=True)
        for index, count in part.bad.items()
    }
    brought = Counter[Identity]()
    for part in sorted_out:
        brought.update(part.brought)
    return Plan(
        {segment.node: segment.seq for segment in segments},
        _by_day(sorted_out),
        pl.DataFrame([(*who, rows) for who, rows in sorted(brought.items())], schema=_BROUGHT, orient="row"),
        pl.concat([_NOTHING, *(part.quarantine for part in sorted_out if part.quarantine is not _NOTHING)]),
        ledger_rows(segments, verdicts, counts, landed_at),
    )


@dataclass(frozen=True)
class _SortedOut:
    """What becomes of a segment's rows: `told` by day (rows, first and last of their times).

    `kept` are the rows that land (`batch`, `line`, `event_day`), None if all do and are of one day. `brought` are the
    rows that each landed batch has there, `bad` those of each (by index) that do not land.
    """

    segment: Segment
    kept: pl.DataFrame | None
    told: dict[date, tuple[int, datetime, datetime]]
    brought: dict[Identity, int]
    bad: dict[int, int]
    quarantine: pl.DataFrame


def _sort_out(segment: Segment, verdict: Sequence[Outcome]) -> _SortedOut:
    return _as_they_are(segment, verdict) or _one_by_one(segment, verdict)


def _as_they_are(segment: Segment, verdict: Sequence[Outcome]) -> _SortedOut | None:
    """Return what becomes of rows that all land, on one day; None if these may be others.

    Most are such. That no row is another is seen by the range of their times, without judging each.
    """
    records = segment.batches
    if not segment.height or set(verdict) != {"landed"} or any(record.rejected for record in records):
        return None
    rows = segment.table(["batch", *RULED])
    arrived = [_moment(record.received_at) for record in records]
    times: Any = rows["time"]
    if times.null_count or not all_hold(rows, min(arrived), max(arrived)):
        return None
    ends: Any = pc.min_max(times)
    first, last = (_moment(end.value) for end in ends.values())
    counts: Any = pc.value_counts(rows["batch"])
    counted = [(one["values"], one["counts"]) for one in counts.to_pylist()]
    if first.date() != last.date() or any(index not in range(len(records)) for index, _ in counted):
        return None
    brought = Counter[Identity]()
    for index, count in counted:
        brought[records[index].identity] += count
    return _SortedOut(segment, None, {first.date(): (rows.num_rows, first, last)}, brought, {}, _NOTHING)


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _one_by_one(segment: Segment, verdict: Sequence[Outcome]) -> _SortedOut:
    """Look at a segment's rows by the few columns that decide; the others stay packed."""
    marks = _judged(segment, verdict).select("batch", "line", "time", "event_day", "code", "detail").collect()
    good, bad = marks.filter(pl.col("code").is_null()), marks.filter(pl.col("code").is_not_null())
    told = good.group_by("event_day").agg(rows=pl.len(), first=pl.col("time").min(), last=pl.col("time").max())
    # A replayed line that is bad again is where it was.
    anew = bad.filter(~_of(verdict, "replayed")).lazy()
    whole = segment.scan().join(anew, on=["batch", "line"], how="inner", maintain_order="left")
    refused = _refused(segment, verdict)
    some = bad.height or refused.height
    quarantine = _quarantine(segment, whole.collect(), refused) if some else _NOTHING
    if "replayed" in verdict:
        quarantine = pl.concat([quarantine, _marks(segment, good.filter(_of(verdict, "replayed")))])
    brought = good.filter(_of(verdict, "landed")).group_by("batch").len()
    by_batch = brought.join(_identities(segment), on="batch").select(*_BATCH, "len")
    whole_day = good.height == segment.height and told.height == 1
    kept = None if whole_day else good.select(*_PLACE, "event_day")
    return _SortedOut(
        segment,
        kept,
        {day: (rows, first, last) for day, rows, first, last in told.iter_rows()},
        {(agent, load, number): rows for agent, load, number, rows in by_batch.iter_rows()},
        dict(bad.group_by("batch").len().iter_rows()),
        quarantine,
    )


def _forgetful(rows: pa.Table) -> pa.Table:
    """Return rows whose dictionaries hold no text of a row that is not among them."""
    for index, field in enumerate(rows.schema):
        if pa.types.is_dictionary(field.type):
            column: Any = rows.column(index)
            rows = rows.set_column(index, field, column.cast(field.type.value_type).dictionary_encode())
    return rows


def landing_rows(segment: Segment, verdict: Sequence[Outcome]) -> pl.LazyFrame:
    """Return those of a segment's rows that go to `events`, given what becomes of each of its batches."""
    kept = _judged(segment, verdict).filter(pl.col("code").is_null(), _of(verdict, *_KEPT))
    return kept.select(frame_schema("events").names())


def _by_day(parts: Sequence[_SortedOut]) -> dict[date, Day]:
    """Return the kept rows by day; only segments that hold rows of a day are read for it."""
    days = {}
    for day in sorted({day for part in parts for day in part.told}):
        there = [part for part in parts if day in part.told]
        rows, first, last = zip(*(part.told[day] for part in there), strict=True)
        sources = [
            _Source(part.segment, None if part.kept is None else part.kept.filter(pl.col("event_day") == day))
            for part in there
        ]
        days[day] = Day(sum(rows), min(first), max(last), sources)
    return days


def _of(verdict: Sequence[Outcome], *wanted: Outcome) -> pl.Expr:
    return pl.col("batch").is_in([index for index, outcome in enumerate(verdict) if outcome in wanted])


def _judged(segment: Segment, verdict: Sequence[Outcome]) -> pl.LazyFrame:
    """Return the rows of batches that are no duplicates, with why they do not land, if they do not."""
    conflict = _of(verdict, "conflict")
    let_out = [index for index, record in enumerate(segment.batches) if record.released]
    judged = judge(segment.scan().filter(_of(verdict, *_KEPT, "conflict")))
    if let_out:
        inside = pl.col("batch").is_in(let_out)
        judged = judged.with_columns(pl.when(~inside).then(pl.col("code", "detail")))
    return judged.with_columns(
        code=pl.when(conflict).then(pl.lit("batch_conflict")).otherwise("code"),
        detail=pl.when(conflict).then(pl.lit(_CONFLICT)).otherwise("detail"),
    )


def _refused(segment: Segment, verdict: Sequence[Outcome]) -> pl.DataFrame:
    return segment.rejected.filter(_of(verdict, "landed", "conflict"))


def _marks(segment: Segment, released: pl.DataFrame) -> pl.DataFrame:
    """Return a `quarantine` row for each replayed line, in its place: where it was, that it has left."""
    places = pl.DataFrame(
        [(index, *record.replay_of) for index, record in enumerate(segment.batches) if record.replay_of is not None],
        schema={"batch": pl.Int32, "node": pl.String, "segment_seq": pl.Int64},
        orient="row",
    )
    return (
        released.select("batch", pl.col("line").cast(pl.Int64))
        .join(_identities(segment), on="batch")
        .join(places, on="batch")
        .sort("batch", "line")
        .with_columns(pl.col("received_at").cast(pl.Datetime("us", "UTC")), code=pl.lit(REPLAYED), detail=pl.lit(_LEFT))
        .with_columns(received_day=pl.col("received_at").dt.date(), raw=pl.lit(""))
        .select(_QUARANTINE.names())
    )


def _quarantine(segment: Segment, rows: pl.DataFrame, refused: pl.DataFrame) -> pl.DataFrame:
    """Return `quarantine` rows of well-formed rows, put back into the form of a line, and of refused lines."""
    line = [pl.col(column.name).cast(pl.Int64) if column.kind == "timestamp" else column.name for column in _LINE]
    own = ["batch", "line", "code", "detail"]
    texts = rows.select(*own, raw=pl.struct(line).struct.json_encode().cast(pl.Binary))
    whole = pl.concat([texts, refused.select(*own, "raw")]).sort("batch", "line", maintain_order=True)
    return (
        whole.join(_identities(segment), on="batch", how="left", maintain_order="left")
        .with_columns(
            pl.col("received_at").cast(pl.Datetime("us", "UTC")),
            pl.col("line").cast(pl.Int64),
            pl.Series("raw", [escape(raw) for raw in whole["raw"]], pl.String),
            node=pl.lit(segment.node),
            segment_seq=pl.lit(segment.seq, pl.Int64),
        )
        .with_columns(received_day=pl.col("received_at").dt.date())
        .select(frame_schema("quarantine").names())
    )


def _identities(segment: Segment) -> pl.DataFrame:
    """Return each batch's index, identity and arrival (µs since 1970)."""
    return pl.DataFrame(
        {
            "batch": range(len(segment.batches)),
            "agent_id": [record.agent_id for record in segment.batches],
            "load_id": [record.load_id for record in segment.batches],
            "batch_seq": [record.batch_seq for record in segment.batches],
            "received_at": [record.received_at for record in segment.batches],
        },
        schema_overrides={"batch": pl.Int32, "batch_seq": pl.Int64, "received_at": pl.Int64},
    )
