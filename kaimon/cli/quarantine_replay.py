"""Lines of quarantine held against today's rules or let out as they are, as a segment to be staged again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ingest.events import Fault, parse_lines
from kaimon.base.clock import to_micros
from kaimon.base.escape import unescape
from lake.quarantined import REPLAYED, still_there
from lake.segments import BatchRecord, Rejected, rows_of
from pipelines.checks.quarantined import CONFLICT, STAGED
from pipelines.landing.rules import RULED, judge

MOST: Final = 200_000
"""Lines that are replayed at one time."""

Part = tuple[BatchRecord, pa.Table, list[Rejected]]


OUTSIDE: Final = "out_of_window"
"""The reason landing gives for a well-formed line whose times it does not take; these alone can be released."""


@dataclass(frozen=True)
class Judged:
    """A line of quarantine by today's rules: `code` and `detail` say what is wrong, None if nothing is."""

    place: dict[str, Any]
    was: str
    code: str | None
    detail: str | None


@dataclass(frozen=True)
class Replay:
    """What today's rules say of the lines, and the parts of a segment that holds those which pass.

    `node` is a name that the same lines always get: however often they are staged, they are staged once.
    """

    lines: list[Judged]
    parts: list[Part]
    node: str

    @property
    def passing(self) -> int:
        """How many lines pass."""
        return sum(line.code is None for line in self.lines)

    @property
    def days(self) -> list[str]:
        """The UTC days of those, as 2026-03-04, in order."""
        found = {day for _, rows, _ in self.parts for day in _days(rows)}
        return [day.isoformat() for day in sorted(found)]


def prepare(quarantine: pl.DataFrame, ledger: pl.DataFrame, longest: int, *, release: bool = False) -> Replay:
    """Judge every line that is still in quarantine.

    A line of a batch whose number had landed with other contents is left out: it is a part of no batch that landed.

    Args:
        quarantine: rows of the table, with the marks of lines that have left.
        ledger: landed rows of `batches`, at least those that brought these lines.
        longest: bytes that a line may have.
        release: judge only lines that are outside landing's window, and let them pass although they are.
    """
    mine = pl.col("code") == OUTSIDE if release else pl.col("code") != CONFLICT
    rows = still_there(quarantine.filter(mine | (pl.col("code") == REPLAYED))).sort(*STAGED, "line").head(MOST)
    batches = {tuple(row[name] for name in STAGED): row for row in ledger.iter_rows(named=True)}
    judged: list[Judged] = []
    parts: list[Part] = []
    said = hashlib.sha256(b"release" if release else b"")
    for place, lines in _by_batch(rows):
        batch = batches.get(place)
        if batch is None:
            judged += [Judged(line, line["code"], "no_batch", "its batch has not landed") for line in lines]
            continue
        table, faults = _judge(lines, batch, longest, release=release)
        bad = {fault.index: fault for fault in faults}
        judged += [
            Judged(line, line["code"], bad[index].code, bad[index].detail)
            if index in bad
            else Judged(line, line["code"], None, None)
            for index, line in enumerate(lines)
        ]
        good = [line["line"] for index, line in enumerate(lines) if index not in bad]
        if good:
            said.update(repr((place, good)).encode())
            staged = rows_of(table, pa.array(good, pa.int32()))
            parts.append((_record(batch, table, released=release), staged, []))
    digest = said.hexdigest()
    whole = [(replace(record, digest=digest), table, rejected) for record, table, rejected in parts]
    return Replay(judged, whole, f"{'release' if release else 'replay'}-{digest[:24]}")


def _days(rows: pa.Table) -> set[date]:
    return {day for day in rows["event_day"].to_pylist() if isinstance(day, date)}


def _by_batch(rows: pl.DataFrame) -> Iterator[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    for place, part in rows.group_by(STAGED, maintain_order=True):
        yield place, part.to_dicts()


def _judge(
    lines: Sequence[dict[str, Any]], batch: dict[str, Any], longest: int, *, release: bool
) -> tuple[pa.Table, list[Fault]]:
    """Return the rows that ingest and landing would take today, and what is wrong with the other lines."""
    given = [unescape(line["raw"]) for line in lines]
    table, faults = parse_lines(given, longest)
    if release:
        return table, faults
    parsed = sorted(set(range(len(lines))) - {fault.index for fault in faults})
    received = pl.lit(batch["received_at"], pl.Datetime("us", "UTC"))
    moments = [name for name in RULED if name != "received_at"]
    frame = pl.DataFrame({name: table[name].to_pylist() for name in moments}, schema=dict.fromkeys(moments, pl.Int64))
    times = frame.with_columns(pl.col(moments).cast(pl.Datetime("us", "UTC")), received_at=received)
    verdict = judge(times.lazy()).select("code", "detail").collect()
    late = [
        Fault(index, str(code), str(detail), given[index])
        for index, (code, detail) in zip(parsed, verdict.iter_rows(), strict=True)
        if code is not None
    ]
    return table.filter(pa.array(verdict["code"].is_null().to_list(), pa.bool_())), [*faults, *late]


def _record(batch: dict[str, Any], rows: pa.Table, *, released: bool) -> BatchRecord:
    """Return the batch that a line came in, as the ledger knows it, with what is replayed of it."""
    last, ends = pc.max(rows["time"]).as_py(), pc.max(rows["last_time"]).as_py()
    return BatchRecord(
        **{name: batch[name] for name in _SAME},
        host={name: batch[name] for name in ("os", "kernel", "arch", "cloud")},
        sent_at=to_micros(batch["sent_at"]),
        received_at=to_micros(batch["received_at"]),
        rows=rows.num_rows,
        occurrences=pc.sum(rows["count"]).as_py(),
        rejected=0,
        first_time=pc.min(rows["time"]).as_py(),
        last_time=last if ends is None else max(last, ends),
        replay_of=[batch["node"], batch["segment_seq"]],
        released=released,
    )


_SAME: Final = (
    "agent_id", "hostname", "claimed_hostname", "boot_id", "load_id", "batch_seq", "digest", "previous_digest",
    "agent_version", "capture_mode", "blind_spots", "counters", "final",
)  # fmt: skip
