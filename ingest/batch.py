"""A batch: from the bytes of a body to what goes into a segment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ingest.body import declared_bytes, decompress, malformed, too_large
from ingest.events import Refusal, parse_lines
from ingest.header import BatchHeader, read_header
from ingest.lines import sort_out
from ingest.memory import BatchKey
from ingest.settings import REJECTED_BYTES, IngestSettings
from kaimon.base.problems import Problem
from lake.segments import BatchRecord, Rejected
from tenancy.credentials import HostIdentity


@dataclass(frozen=True)
class Arrived:
    """A body as it arrived: its bytes, their SHA-256 in hex, when (microseconds since 1970 UTC), and from whom."""

    body: bytes
    digest: str
    received_at: int
    sender: HostIdentity

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
    slow: bool


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
    opened = decompress(body, settings.max_decompressed_bytes)
    if not opened.endswith(b"\n"):
        raise malformed("the last line has no end" if opened else "empty")
    end = opened.index(b"\n")
    if end > settings.max_header_bytes:
        raise Problem(400, "bad_header", "The batch's header is not valid", f"{end} bytes long")
    header = read_header(opened[:end])
    if header.agent_id != arrived.sender.agent_id:
        raise Problem(403, "agent_mismatch", "The credential is another agent's", "agent_id in the batch's header")
    lines = opened[end + 1 :]
    del opened
    if (count := lines.count(b"\n")) > settings.max_lines:
        raise too_large(f"{count} lines, at most {settings.max_lines}")
    rows: pa.Table | Refusal = parse_lines(lines, settings.max_line_bytes)
    rejected: list[Rejected] = []
    slow = isinstance(rows, Refusal)
    if isinstance(rows, Refusal):
        # Any line may be a bad one, and a short one takes more to keep than to send.
        claim(len(body) + 2 * len(lines) + REJECTED_BYTES * count)
        rows, rejected = sort_out(lines, settings.max_line_bytes)
    record = _record(header, arrived, rows, len(rejected))
    size = rows.nbytes + sum(len(line.raw) + REJECTED_BYTES for line in rejected) + end
    return Batch(record, rows, rejected, size, slow)


def _record(header: BatchHeader, arrived: Arrived, rows: pa.Table, rejected: int) -> BatchRecord:
    first, last = pc.min(rows["time"]).as_py(), pc.max(rows["time"]).as_py()
    ends = pc.max(rows["last_time"]).as_py()
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
        host=msgspec.to_builtins(header.host),
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
