"""The ledger: which batches have landed, and the rows that say what became of each staged one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import polars as pl

from kaimon.base.clock import to_micros
from lake.frames import frame_schema
from lake.segments import BatchRecord, Segment

Identity = tuple[str, str, int]
Outcome = Literal["landed", "duplicate", "conflict", "replayed"]

_LAST_MOMENT: Final = to_micros(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
"""An agent's clock may say anything; later than this no reader's calendar goes."""


def landed_digests(ledger: pl.LazyFrame, records: Iterable[BatchRecord]) -> dict[Identity, str]:
    """Return the digest under which each of these batches has landed already, by identity.

    Asked of the set of landed batches, never of a high-water mark: two nodes' listings are no snapshot, and batch 8
    can land before batch 7.
    """
    wanted = [record.identity for record in records]
    if not wanted:
        return {}
    numbers = [number for _, _, number in wanted]
    # The bounds let Delta's statistics leave whole files shut.
    frame = (
        ledger.filter(
            pl.col("outcome") == "landed",
            pl.col("batch_seq").is_between(min(numbers), max(numbers)),
            pl.col("load_id").is_in(list({load for _, load, _ in wanted})),
        )
        .select("agent_id", "load_id", "batch_seq", "digest")
        .collect()
    )
    known = {(agent, load, number): digest for agent, load, number, digest in frame.iter_rows()}
    return {identity: known[identity] for identity in wanted if identity in known}


def outcomes(segments: Iterable[Segment], known: Mapping[Identity, str]) -> list[list[Outcome]]:
    """Return what becomes of each segment's batches, in order: the first of an identity lands.

    A later one of the same digest is a `duplicate`; of another digest, a `conflict`: both are kept, one apart. Lines
    that leave quarantine are `replayed`: they are a part of a batch that has landed.
    """
    digests = dict(known)
    verdicts: list[list[Outcome]] = []
    for segment in segments:
        verdicts.append([])
        for record in segment.batches:
            outcome: Outcome = "landed"
            if record.replay_of is not None:
                outcome = "replayed" if record.identity in digests else "conflict"
            elif record.identity in digests:
                outcome = "duplicate" if digests[record.identity] == record.digest else "conflict"
            else:
                digests[record.identity] = record.digest
            verdicts[-1].append(outcome)
    return verdicts


def ledger_rows(
    segments: Iterable[Segment],
    verdicts: Iterable[list[Outcome]],
    quarantined: Mapping[tuple[str, int, int], int],
    landed_at: datetime,
) -> pl.DataFrame:
    """Return the `batches` rows of these segments.

    Args:
        segments: in the order in which they land.
        verdicts: from `outcomes`.
        quarantined: well-formed rows put into quarantine, by (node, segment's sequence, index of the batch).
        landed_at: when.
    """
    rows = [
        _row(segment, record, outcome, quarantined.get((segment.node, segment.seq, index), 0), to_micros(landed_at))
        for segment, verdict in zip(segments, verdicts, strict=True)
        for index, (record, outcome) in enumerate(zip(segment.batches, verdict, strict=True))
    ]
    schema = frame_schema("batches")
    loose = {
        name: pl.Int64 if isinstance(dtype, pl.Datetime) else pl.Int32 if dtype == pl.Date else dtype
        for name, dtype in schema.items()
    }
    return pl.DataFrame(rows, schema=loose, orient="row").cast(schema)


def _row(segment: Segment, record: BatchRecord, outcome: Outcome, quarantined: int, landed_at: int) -> dict[str, Any]:
    given = {name: getattr(record, name) for name in _SAME}
    return given | {
        "os": record.host.get("os"),
        "kernel": record.host.get("kernel"),
        "arch": record.host.get("arch"),
        "cloud": record.host.get("cloud"),
        "sent_at": _calendar(record.sent_at),
        "received_day": record.received_at // 86_400_000_000,
        "quarantined": quarantined,
        "first_time": None if record.first_time is None else _calendar(record.first_time),
        "last_time": None if record.last_time is None else _calendar(record.last_time),
        "outcome": outcome,
        "node": segment.node,
        "segment_seq": segment.seq,
        "segment_digest": segment.digest,
        "landed_at": landed_at,
    }


_SAME: Final = (
    "agent_id", "hostname", "claimed_hostname", "boot_id", "load_id", "batch_seq", "digest", "previous_digest",
    "agent_version", "capture_mode", "blind_spots", "counters", "final", "received_at", "rows", "occurrences",
    "rejected",
)  # fmt: skip


def _calendar(micros: int) -> int:
    return min(max(micros, 0), _LAST_MOMENT)
