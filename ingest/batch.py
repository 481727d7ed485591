"""Batches: from the bytes of their bodies to what goes into a segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pyarrow as pa

from ingest.arrow import read_stream, rows_as_lines
from ingest.body import declared_bytes, decompress, malformed, too_large
from ingest.header import BatchHeader, bad_header, read_header
from ingest.lines import FIRST_LINE, Events, count_lines, judge, read_lines, read_rows
from ingest.memory import BatchKey
from ingest.settings import REJECTED_BYTES, IngestSettings
from kaimon.base.problems import Problem
from lake.segments import BatchRecord, Rejected
from tenancy.credentials import HostIdentity

NDJSON: Final = "application/x-ndjson"
ARROW: Final = "application/vnd.apache.arrow.stream"


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


def read_batch(arrived: Arrived, settings: IngestSettings, claim: Callable[[int], None] = lambda _: None) -> Batch:
    """Return the batch that a body holds.

    Args:
        arrived: the body and where it came from.
        settings: the limits.
        claim: told how much memory will be needed, before it is; may raise.

    Raises:
        Problem: 400 malformed_body or bad_header; 403 agent_mismatch; 413 too_large.
    """
    body = arrived.body
    # Lines and columns are there at the same time.
    claim(len(body) + 2 * declared_bytes(body, settings.max_decompressed_bytes))
    data = decompress(body, settings.max_decompressed_bytes)
    if arrived.kind == ARROW:
        return _from_arrow(arrived, data, settings, claim)
    return _from_lines(arrived, data, settings, claim)


def read_batches(
    group: Sequence[tuple[Arrived, Callable[[int], None]]], settings: IngestSettings
) -> list[Batch | Exception]:
    """Return for each body its batch, or what `read_batch` would raise."""
    found: list[Batch | Exception] = []
    for arrived, claim in group:
        try:
            found.append(read_batch(arrived, settings, claim))
        except Exception as error:  # noqa: BLE001 - it is its sender's, and its neighbours go on
            found.append(error)
    return found


def _from_lines(arrived: Arrived, data: bytes, settings: IngestSettings, claim: Callable[[int], None]) -> Batch:
    if not data.endswith(b"\n"):
        raise malformed("the last line has no end" if data else "empty")
    if (count := count_lines(data) - 1) > settings.max_lines:
        raise too_large(f"{count} lines, at most {settings.max_lines}")
    end = data.index(b"\n")
    header = _header(data[:end], arrived, settings)
    # Any line may be a bad one, and a short one takes more to keep than to send.
    claim(len(arrived.body) + 2 * len(data) + REJECTED_BYTES * count)
    return _batch(arrived, header, read_lines(data, end + 1, count, settings.max_line_bytes), len(data))


def _from_arrow(arrived: Arrived, data: bytes, settings: IngestSettings, claim: Callable[[int], None]) -> Batch:
    first, parts = read_stream(data, settings.max_lines)
    header = _header(first, arrived, settings)
    events = read_rows(parts, settings.max_line_bytes, settings.max_decompressed_bytes)
    if events is not None:
        return _batch(arrived, header, events, len(data))
    claim(len(arrived.body) + len(data) + settings.max_decompressed_bytes)
    lines = rows_as_lines(parts, settings.max_decompressed_bytes)
    size = sum(map(len, lines))
    claim(len(arrived.body) + 2 * size + REJECTED_BYTES * len(lines))
    return _batch(arrived, header, judge(lines, settings.max_line_bytes), size)


def _header(line: bytes, arrived: Arrived, settings: IngestSettings) -> BatchHeader:
    if len(line) > settings.max_header_bytes:
        raise bad_header(f"{len(line)} bytes long")
    header = read_header(line)
    if header.agent_id != arrived.sender.agent_id:
        raise Problem(403, "agent_mismatch", "The credential is another agent's", "agent_id in the batch's header")
    return header


def _batch(arrived: Arrived, header: BatchHeader, events: Events, size: int) -> Batch:
    rejected = [Rejected(fault.index + FIRST_LINE, fault.code, fault.detail, fault.raw) for fault in events.faults]
    size += sum(len(line.raw) + REJECTED_BYTES for line in rejected)
    return Batch(_record(arrived, header, events, len(rejected)), events.rows, rejected, size)


def _record(arrived: Arrived, header: BatchHeader, events: Events, rejected: int) -> BatchRecord:
    sums = events.sums
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
        rows=sums.rows,
        occurrences=sums.occurrences,
        rejected=rejected,
        first_time=sums.first,
        last_time=sums.last,
    )
