"""Batches: from the bytes of their bodies to what goes into a segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import msgspec
import pyarrow as pa

from ingest.arrow import read_stream, rows_as_lines
from ingest.body import declared_bytes, decompress, malformed, too_large
from ingest.header import BatchHeader, bad_header, read_header
from ingest.lines import FIRST_LINE, Events, count_lines, judge, read_columns, read_lines, read_rows, read_together
from ingest.memory import BatchKey
from ingest.plain import Lines, Sums
from ingest.settings import REJECTED_BYTES, IngestSettings
from kaimon.base.problems import Problem
from lake.segments import BatchRecord, Rejected
from tenancy.credentials import HostIdentity

NDJSON: Final = "application/x-ndjson"
ARROW: Final = "application/vnd.apache.arrow.stream"
_SMALL_SENT: Final = 128 * 1024
_SMALL_OPENED: Final = 512 * 1024
"""Bytes of a small body, as sent and opened."""


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
    """A batch as read: its record, rejected lines, and what it takes in memory.

    `table` holds its typed rows with their line numbers from `start` on, and perhaps those of its neighbours.
    """

    record: BatchRecord
    table: pa.Table
    rejected: list[Rejected]
    size: int
    start: int = 0

    @property
    def rows(self) -> pa.Table:
        """Its rows, as `lake.segments.ROWS`."""
        whole = self.table.num_rows == self.record.rows
        return self.table if whole else self.table.slice(self.start, self.record.rows)

    @property
    def slow(self) -> bool:
        """Whether its lines were looked at one by one."""
        return bool(self.rejected)


@dataclass(frozen=True)
class Unread:
    """A body that nobody has looked into; `settings` are its limits.

    `claim` is told how much memory will be needed, before it is; it may raise.
    """

    arrived: Arrived
    settings: IngestSettings
    claim: Callable[[int], None] = lambda _: None


@dataclass(frozen=True)
class _Opened:
    """A body of lines, whose header is read and whose lines are not."""

    arrived: Arrived
    header: BatchHeader
    lines: Lines


def read_batch(unread: Unread) -> Batch:
    """Return the batch that a body holds.

    Raises:
        Problem: 400 malformed_body or bad_header; 403 agent_mismatch; 413 too_large.
    """
    if unread.arrived.kind == ARROW:
        return _from_arrow(unread, _opened(unread))
    opened = _open_lines(unread)
    events = read_lines(opened.lines, unread.settings.max_line_bytes)
    return _batch(opened.arrived, opened.header, events, len(opened.lines.data))


def read_batches(group: Sequence[Unread]) -> list[Batch | Exception]:
    """Return for each body its batch, or what `read_batch` would raise.

    Where all lines are plainly good, the batches of lines share one table, in which their rows are one after the other.
    """
    lines = [unread for unread in group if unread.arrived.kind == NDJSON]
    together: list[Batch] | None = None
    if len(lines) > 1:
        # If one of them is to blame, its neighbours go on.
        with suppress(Problem):
            together = _read_together(lines)
    of_lines = iter(together or ())
    found: list[Batch | Exception] = []
    for unread in group:
        try:
            is_read = together is not None and unread.arrived.kind == NDJSON
            found.append(next(of_lines) if is_read else read_batch(unread))
        except Exception as error:  # noqa: BLE001 - it is its sender's
            found.append(error)
    return found


def _read_together(group: Sequence[Unread]) -> list[Batch] | None:
    """Return the batches of bodies of lines, in one table; None unless all their lines are plainly good."""
    opened = [_open_lines(unread) for unread in group]
    longest = min(unread.settings.max_line_bytes for unread in group)
    together = read_together([each.lines for each in opened], longest)
    if together is None:
        return None
    table, sums = together
    starts = accumulate((told.rows for told in sums), initial=0)
    return [
        Batch(_record(each.arrived, each.header, told, 0), table, [], len(each.lines.data), start)
        for each, told, start in zip(opened, sums, starts, strict=False)
    ]


def small_size(arrived: Arrived, settings: IngestSettings) -> int | None:
    """Return how many bytes a small body takes, sent and opened; None if it is not small, or does not say.

    To read a small one takes less than to hand it to a thread and back.

    Raises:
        Problem: 400 malformed_body, not a frame; 413 too_large.
    """
    sent = len(arrived.body)
    if sent > _SMALL_SENT:
        return None
    opened = declared_bytes(arrived.body, settings.max_decompressed_bytes)
    return sent + opened if opened <= _SMALL_OPENED else None


def _opened(unread: Unread) -> bytes:
    body, most = unread.arrived.body, unread.settings.max_decompressed_bytes
    # Lines and columns are there at the same time.
    unread.claim(len(body) + 2 * declared_bytes(body, most))
    return decompress(body, most)


def _open_lines(unread: Unread) -> _Opened:
    data, settings = _opened(unread), unread.settings
    if not data.endswith(b"\n"):
        raise malformed("the last line has no end" if data else "empty")
    if (count := count_lines(data) - 1) > settings.max_lines:
        raise too_large(f"{count} lines, at most {settings.max_lines}")
    end = data.index(b"\n")
    header = _header(data[:end], unread.arrived, settings)
    # Any line may be a bad one, and a short one takes more to keep than to send.
    unread.claim(len(unread.arrived.body) + 2 * len(data) + REJECTED_BYTES * count)
    return _Opened(unread.arrived, header, Lines(data, end + 1, count))


def _from_arrow(unread: Unread, data: bytes) -> Batch:
    arrived, settings, claim = unread.arrived, unread.settings, unread.claim
    plain = read_columns(data, settings.max_lines, settings.max_line_bytes, settings.max_decompressed_bytes)
    if plain is not None:
        return _batch(arrived, _header(plain[0], arrived, settings), plain[1], len(data))
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
    return Batch(_record(arrived, header, events.sums, len(rejected)), events.rows, rejected, size)


def _record(arrived: Arrived, header: BatchHeader, sums: Sums, rejected: int) -> BatchRecord:
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
