"""Batches: from the bytes of their bodies to what goes into a segment; small ones are parsed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ingest.arrow import read_stream, rows_as_lines, vouched_for
from ingest.body import declared_bytes, decompress, malformed, too_large
from ingest.events import Fault, parse_lines
from ingest.header import BatchHeader, bad_header, read_header
from ingest.memory import BatchKey
from ingest.settings import REJECTED_BYTES, IngestSettings
from kaimon.base.problems import Problem
from lake.schema import EVENT_LINE
from lake.segments import BatchRecord, Rejected
from tenancy.credentials import HostIdentity

NDJSON: Final = "application/x-ndjson"
ARROW: Final = "application/vnd.apache.arrow.stream"
_FIRST_LINE: Final = 2


@dataclass(frozen=True)
class Arrived:
    """A body as it arrived: its bytes, their SHA-256 in hex, when (microseconds since 1970 UTC), from whom.

    `kind` is its media type.
    """

    body: bytes
    digest: str
    received_at: int
    sender: HostIdentity
    kind: str = NDJSON

    @property
    def key(self) -> BatchKey:
        """What tells this batch from others, without a look inside."""
        return self.sender.tenant_id, self.sender.agent_id, self.digest


@dataclass(frozen=True)
class Batch:
    """A batch as read: typed rows with their line numbers, rejected lines, and what they take in memory."""

    record: BatchRecord
    rows: pa.Table
    rejected: list[Rejected]
    size: int

    @property
    def slow(self) -> bool:
        """Whether its lines were looked at one by one."""
        return bool(self.rejected)


@dataclass(frozen=True)
class _Opened:
    """A body that was opened: its header, and its lines or, if it came as columns and nothing is wrong, its rows."""

    arrived: Arrived
    header: BatchHeader
    size: int
    lines: list[bytes]
    rows: pa.Table | None = None


def read_batch(arrived: Arrived, settings: IngestSettings, claim: Callable[[int], None] = lambda _: None) -> Batch:
    """Return the batch that a body holds.

    Args:
        arrived: the body and where it came from.
        settings: the limits.
        claim: told how much memory will be needed, before it is; may raise.

    Raises:
        Problem: 400 malformed_body or bad_header; 403 agent_mismatch; 413 too_large.
    """
    (batch,) = read_batches([(arrived, claim)], settings)
    if isinstance(batch, Exception):
        raise batch
    return batch


def read_batches(
    group: Sequence[tuple[Arrived, Callable[[int], None]]], settings: IngestSettings
) -> list[Batch | Exception]:
    """Return for each body its batch, or what `read_batch` would raise; the lines of all are parsed as one."""
    opened = [_opened(arrived, settings, claim) for arrived, claim in group]
    good = [body for body in opened if isinstance(body, _Opened)]
    table, faults = parse_lines([line for body in good for line in body.lines], settings.max_line_bytes)
    found: list[Batch | Exception] = []
    row = line = fault = 0
    for body in opened:
        if not isinstance(body, _Opened):
            found.append(body)
            continue
        first_fault = fault
        while fault < len(faults) and faults[fault].index < line + len(body.lines):
            fault += 1
        count = len(body.lines) - (fault - first_fault)
        rows = table.slice(row, count) if body.rows is None else body.rows
        found.append(_batch(body, rows, faults[first_fault:fault], line))
        row, line = row + count, line + len(body.lines)
    return found


def _opened(arrived: Arrived, settings: IngestSettings, claim: Callable[[int], None]) -> _Opened | Exception:
    try:
        body = arrived.body
        # Lines and columns are there at the same time.
        claim(len(body) + 2 * declared_bytes(body, settings.max_decompressed_bytes))
        data = decompress(body, settings.max_decompressed_bytes)
        opened = (
            _from_arrow(arrived, data, settings, claim)
            if arrived.kind == ARROW
            else _from_lines(arrived, data, settings)
        )
        # Any line may be a bad one, and a short one takes more to keep than to send.
        claim(len(body) + 2 * opened.size + REJECTED_BYTES * len(opened.lines))
    except Exception as error:  # noqa: BLE001 - it is its sender's, and its neighbours go on
        return error
    return opened


def _from_lines(arrived: Arrived, data: bytes, settings: IngestSettings) -> _Opened:
    if not data.endswith(b"\n"):
        raise malformed("the last line has no end" if data else "empty")
    if (count := data.count(b"\n") - 1) > settings.max_lines:
        raise too_large(f"{count} lines, at most {settings.max_lines}")
    first, *lines = data.split(b"\n")
    lines.pop()
    return _Opened(arrived, _header(first, arrived, settings), len(data), lines)


def _from_arrow(arrived: Arrived, data: bytes, settings: IngestSettings, claim: Callable[[int], None]) -> _Opened:
    first, rows = read_stream(data, settings.max_lines)
    header = _header(first, arrived, settings)
    if vouched_for(rows, settings.max_line_bytes):
        return _Opened(arrived, header, len(data), [], pa.Table.from_arrays(rows.columns, schema=EVENT_LINE))
    claim(len(arrived.body) + len(data) + settings.max_decompressed_bytes)
    lines = rows_as_lines(rows, settings.max_decompressed_bytes)
    return _Opened(arrived, header, sum(map(len, lines)), lines)


def _header(line: bytes, arrived: Arrived, settings: IngestSettings) -> BatchHeader:
    if len(line) > settings.max_header_bytes:
        raise bad_header(f"{len(line)} bytes long")
    header = read_header(line)
    if header.agent_id != arrived.sender.agent_id:
        raise Problem(403, "agent_mismatch", "The credential is another agent's", "agent_id in the batch's header")
    return header


def _batch(body: _Opened, rows: pa.Table, faults: Sequence[Fault], offset: int) -> Batch:
    """Put a batch together from its part of what was parsed; `offset` lines were parsed before its own."""
    rejected = [
        Rejected(fault.index - offset + _FIRST_LINE, fault.code, fault.detail, body.lines[fault.index - offset])
        for fault in faults
    ]
    numbers = _numbers(rows.num_rows, {line.line for line in rejected})
    rows = rows.append_column(pa.field("line", pa.int32(), nullable=False), numbers)
    size = body.size + sum(len(line.raw) + REJECTED_BYTES for line in rejected)
    return Batch(_record(body, rows, len(rejected)), rows, rejected, size)


def _numbers(rows: int, bad: set[int]) -> pa.Array[Any]:
    """Return the line numbers of `rows` good lines among the bad ones."""
    if not bad:
        return _counting(1 << rows.bit_length()).slice(0, rows)
    every = range(_FIRST_LINE, _FIRST_LINE + rows + len(bad))
    return pa.array([number for number in every if number not in bad], pa.int32())


@cache
def _counting(size: int) -> pa.Array[Any]:
    return pa.array(range(_FIRST_LINE, _FIRST_LINE + size), pa.int32())


def _record(body: _Opened, rows: pa.Table, rejected: int) -> BatchRecord:
    header, arrived = body.header, body.arrived
    first, last = pc.min(rows["time"]).as_py(), pc.max(rows["time"]).as_py()
    ends = pc.max(rows["last_time"]).as_py()
    host: dict[str, Any] = msgspec.to_builtins(header.host)
    return BatchRecord(
        agent_id=header.agent_id,
        hostname=arrived.sender.hostname,
        claimed_hostname=header.hostname,
        boot_id=header.boot_id,
        load_id=header.load_id,
        batch_seq=header.batch_seq,
        digest=arrived.digest,
        previous_digest=header.previous_digest,
        agent_version=header.agent_version,
        capture_mode=header.capture_mode,
        blind_spots=header.blind_spots,
        host=host,
        counters=msgspec.to_builtins(header.cpus),
        final=header.final,
        sent_at=header.sent_at,
        received_at=arrived.received_at,
        rows=rows.num_rows,
        occurrences=pc.sum(rows["count"]).as_py() or 0,
        rejected=rejected,
        first_time=first,
        last_time=last if last is None or ends is None else max(last, ends),
    )
