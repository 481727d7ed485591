"""What a group of segments becomes: rows of `events`, `quarantine` and `batches`, from their bytes and the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import polars as pl

from kaimon.base.escape import escape
from lake.frames import frame_schema
from lake.schema import EVENTS
from lake.segments import Segment
from pipelines.landing.ledger import Identity, Outcome, ledger_rows, outcomes
from pipelines.landing.rules import AHEAD, BEHIND, judge

_LINE: Final = tuple(column for column in EVENTS if column.source == "event")
_CONFLICT: Final = "another batch of this number, with other contents, has landed"


@dataclass(frozen=True)
class Plan:
    """Rows of three tables, in order of node, sequence and position; `targets` is the last sequence of each node.

    The same segments and the same ledger give the same plan, but for `batches.landed_at`.
    """

    targets: dict[str, int]
    events: pl.DataFrame
    quarantine: pl.DataFrame
    batches: pl.DataFrame

    @property
    def days(self) -> set[date]:
        """The UTC days that this touches: of its events, and of its landed batches' cutting and arrival."""
        landed = self.batches.filter(pl.col("outcome") == "landed")
        return set(self.events["event_day"].unique().to_list()) | batch_days(landed)


def batch_days(batches: pl.DataFrame) -> set[date]:
    """Return the days on which these batches arrived, and those on which they were cut if their clock is credible."""
    cut = batches.filter(pl.col("sent_at").is_between(pl.col("received_at") - BEHIND, pl.col("received_at") + AHEAD))
    return set(cut["sent_at"].dt.date().to_list()) | set(batches["received_day"].to_list())


def plan(segments: Sequence[Segment], known: Mapping[Identity, str], landed_at: datetime) -> Plan:
    """Sort out a group of segments.

    Args:
        segments: by node and sequence, each node's without a gap.
        known: digests of landed batches, at least of those in the segments that have landed.
        landed_at: what the ledger is to say about when.
    """
    verdicts = outcomes(segments, known)
    kept: list[pl.DataFrame] = []
    apart: list[pl.DataFrame] = []
    counts: dict[tuple[str, int, int], int] = {}
    for segment, verdict in zip(segments, verdicts, strict=True):
        rows = _judged(segment, verdict)
        bad = rows.filter(pl.col("code").is_not_null())
        kept.append(rows.filter(pl.col("code").is_null()).select(frame_schema("events").names()))
        apart.append(_quarantine(segment, bad, _refused(segment, verdict)))
        for index, count in bad.group_by("batch").len().iter_rows():
            counts[segment.node, segment.seq, index] = count
    return Plan(
        {segment.node: segment.seq for segment in segments},
        _concat(kept, "events"),
        _concat(apart, "quarantine"),
        ledger_rows(segments, verdicts, counts, landed_at),
    )


def _concat(frames: list[pl.DataFrame], table: str) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=frame_schema(table)), *frames], how="vertical")


def _of(verdict: Sequence[Outcome], *wanted: Outcome) -> pl.Expr:
    return pl.col("batch").is_in([index for index, outcome in enumerate(verdict) if outcome in wanted])


def _judged(segment: Segment, verdict: Sequence[Outcome]) -> pl.DataFrame:
    """Return the rows of batches that are no duplicates, with why they do not land, if they do not."""
    conflict = _of(verdict, "conflict")
    return judge(segment.events.filter(_of(verdict, "landed", "conflict"))).with_columns(
        code=pl.when(conflict).then(pl.lit("batch_conflict")).otherwise("code"),
        detail=pl.when(conflict).then(pl.lit(_CONFLICT)).otherwise("detail"),
    )


def _refused(segment: Segment, verdict: Sequence[Outcome]) -> pl.DataFrame:
    return segment.rejected.filter(_of(verdict, "landed", "conflict"))


def _quarantine(segment: Segment, rows: pl.DataFrame, refused: pl.DataFrame) -> pl.DataFrame:
    """Return `quarantine` rows of well-formed rows, put back into the form of a line, and of refused lines."""
    line = [pl.col(column.name).cast(pl.Int64) if column.kind == "timestamp" else column.name for column in _LINE]
    own = ["batch", "line", "code", "detail"]
    texts = rows.select(*own, raw=pl.struct(line).struct.json_encode().cast(pl.Binary))
    whole = pl.concat([texts, refused.select(*own, "raw")]).sort("batch", "line", maintain_order=True)
    batches = pl.DataFrame(
        {
            "batch": range(len(segment.batches)),
            "agent_id": [record.agent_id for record in segment.batches],
            "load_id": [record.load_id for record in segment.batches],
            "batch_seq": [record.batch_seq for record in segment.batches],
            "received_at": [record.received_at for record in segment.batches],
        },
        schema_overrides={"batch": pl.Int32, "batch_seq": pl.Int64, "received_at": pl.Int64},
    )
    return (
        whole.join(batches, on="batch", how="left", maintain_order="left")
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
