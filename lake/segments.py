"""A staged segment: one Parquet file of the batches that one ingest process committed together for one tenant."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from io import BytesIO
from typing import Any, Final

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.columns import table_schema
from lake.schema import EVENTS

FIRST_SEQUENCE: Final = 1
"""The number of a node's first segment for a tenant; each next one is one more."""

VERSION: Final = 1
"""The form of a segment; a reader refuses another."""

_METADATA: Final = b"kaimon.segment"
_KEY: Final = re.compile(r"([a-z][a-z0-9-]{1,38}[a-z0-9])/(?!lease/)([a-z0-9]+(?:[_-][a-z0-9]+)*)/([0-9]{12})\.parquet")
_OWN: Final[tuple[pa.Field[Any], ...]] = (
    pa.field("batch", pa.int32(), nullable=False),
    pa.field("line", pa.int32(), nullable=False),
    pa.field("code", pa.string()),
    pa.field("detail", pa.string()),
    pa.field("raw", pa.binary()),
)


class SegmentError(Exception):
    """These bytes are not the segment that they should be."""


@dataclass(frozen=True)
class BatchRecord:
    """One batch as ingest received it. Times are microseconds since 1970 UTC; digests are hex SHA-256.

    `counters` are the header's `cpus`. `rows`, `occurrences`, `rejected`, `first_time` and `last_time` speak of the
    body: well-formed event rows, the sum of their counts, refused lines, and the range of the rows' own times.
    """

    agent_id: str
    hostname: str
    claimed_hostname: str
    boot_id: str
    load_id: str
    batch_seq: int
    digest: str
    previous_digest: str | None
    agent_version: str
    capture_mode: str
    blind_spots: list[str]
    host: dict[str, str | None]
    counters: list[dict[str, Any]]
    final: bool
    sent_at: int
    received_at: int
    rows: int
    occurrences: int
    rejected: int
    first_time: int | None = None
    last_time: int | None = None

    @property
    def identity(self) -> tuple[str, str, int]:
        """What makes it this batch and no other, whatever its digest: (`agent_id`, `load_id`, `batch_seq`)."""
        return self.agent_id, self.load_id, self.batch_seq


@dataclass(frozen=True)
class Rejected:
    """A line that is not an event: its number in the body (the header is line 1), why, and its bytes."""

    line: int
    code: str
    detail: str
    raw: bytes


@dataclass(frozen=True)
class Segment:
    """A segment as read.

    `events` has `batch` (index into `batches`), `line` and the columns of `lake.schema.EVENTS`; `rejected` has
    `batch`, `line`, `code`, `detail` and `raw` (bytes). Both in the order in which they arrived.
    """

    tenant: str
    node: str
    seq: int
    digest: str
    batches: list[BatchRecord] = dataclass_field(repr=False)
    events: pl.DataFrame = dataclass_field(repr=False)
    rejected: pl.DataFrame = dataclass_field(repr=False)


def segment_key(tenant: str, node: str, seq: int) -> str:
    """Return a segment's key in the staging store.

    Raises:
        ValueError: a part is not of its form, or `seq` is below `FIRST_SEQUENCE`.
    """
    key = f"{tenant}/{node}/{seq:012d}.parquet"
    if seq < FIRST_SEQUENCE or not _KEY.fullmatch(key):
        raise ValueError(f"not a segment: {tenant!r}, {node!r}, {seq}")
    return key


def parse_segment_key(key: str) -> tuple[str, str, int]:
    """Return (tenant, node, seq) of a segment's key.

    Raises:
        ValueError: the key is not one.
    """
    found = _KEY.fullmatch(key)
    if found is None or int(found[3]) < FIRST_SEQUENCE:
        raise ValueError(f"not a segment's key: {key!r}")
    return found[1], found[2], int(found[3])


def encode_segment(
    node: str, seq: int, tenant: str, parts: Sequence[tuple[BatchRecord, pa.Table, Sequence[Rejected]]]
) -> bytes:
    """Return a segment's bytes: Parquet, zstd 1; the batches' headers are JSON in the file's metadata.

    Args:
        node: the ingest process.
        seq: the segment's number at that node for that tenant.
        tenant: whose batches these are.
        parts: each batch with its event rows (`lake.schema.EVENT_LINE` and an integer `line`) and refused lines.

    Raises:
        ValueError: a part's rows are not of that shape, or do not agree with its record's counts.
    """
    segment_key(tenant, node, seq)
    for record, rows, rejected in parts:
        if rows.num_rows != record.rows or len(rejected) != record.rejected:
            raise ValueError(f"batch {record.batch_seq}: {rows.num_rows} rows and {len(rejected)} rejected lines")
    table = _event_rows(parts)
    if any(rejected for _, _, rejected in parts):
        rejects = _rejected_rows([rejected for _, _, rejected in parts])
        table = pa.concat_tables([table.cast(_FILE), rejects])
    head = {"version": VERSION, "tenant": tenant, "node": node, "seq": seq, "batches": [part[0] for part in parts]}
    target = BytesIO()
    # Without Arrow's own copy of the schema, which would hold the headers a second time.
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 1, "write_statistics": False}
    options["use_dictionary"] = _REPEATING
    with pq.ParquetWriter(target, table.schema, store_schema=False, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_METADATA.decode(): msgspec.json.encode(head).decode()})
    return target.getvalue()


def read_segment(data: bytes) -> Segment:
    """Return what `encode_segment` was given.

    Raises:
        SegmentError: the bytes are not a segment, or one of another version.
    """
    try:
        file = pq.ParquetFile(BytesIO(data))
        head = json.loads((file.metadata.metadata or {})[_METADATA])
        if head["version"] != VERSION:
            raise SegmentError(f"a segment of version {head['version']}; this program reads {VERSION}")
        table = file.read()
        batches = [BatchRecord(**record) for record in head["batches"]]
        rejects = pc.is_valid(table["code"])
        # A filter copies every column, and nearly every segment has nothing to leave out.
        clean = table["code"].null_count == table.num_rows
        events = table if clean else table.filter(pc.invert(rejects))
        events = events.select(["batch", "line", *(column.name for column in EVENTS)])
        rejected = table.select([own.name for own in _OWN])
        rejected = rejected.slice(0, 0) if clean else rejected.filter(rejects)
        return Segment(
            head["tenant"],
            head["node"],
            head["seq"],
            hashlib.sha256(data).hexdigest(),
            batches,
            pl.DataFrame(events.replace_schema_metadata(None)),
            pl.DataFrame(rejected.replace_schema_metadata(None)),
        )
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise SegmentError(f"not a segment: {error}") from error


_OF_BATCH: Final[dict[str, pa.DataType]] = {
    column.name: column.wire_type() for column in EVENTS if column.source in {"batch", "ingest"}
}
_OF_BATCH.pop("event_day")
# A refused line is a row without an event, so here every event column may be null.
_FILE: Final = pa.schema([*_OWN, *(field.with_nullable(True) for field in table_schema(EVENTS))])


_REPEATING: Final = [name for name in _FILE.names if name not in {"line", "time", "monotonic_ns", "seq"}]
"""Columns whose values come again; a dictionary of the others would be made in vain."""


def _event_rows(parts: Sequence[tuple[BatchRecord, pa.Table, Sequence[Rejected]]]) -> pa.Table:
    """Return the event rows of all batches; a batch's texts are dictionaries, which cost nothing a row."""
    rows = pa.concat_tables([rows for _, rows, _ in parts]).combine_chunks()
    batch = pa.concat_arrays([pa.repeat(pa.scalar(n, pa.int32()), part[1].num_rows) for n, part in enumerate(parts)])
    columns: list[Any] = []
    for wanted in _FILE:
        if wanted.name == "batch":
            columns.append(batch)
        elif wanted.name == "event_day":
            # Drops the time of day, which a safe cast would refuse.
            columns.append(rows["time"].cast(pa.timestamp("us")).cast(pa.date32(), safe=False))
        elif wanted.name in _OF_BATCH:
            values = pa.array([getattr(record, wanted.name) for record, _, _ in parts], _OF_BATCH[wanted.name])
            spread = _spread(values, batch)
            columns.append(spread.cast(wanted.type) if pa.types.is_timestamp(wanted.type) else spread)
        elif wanted.name in rows.schema.names:
            columns.append(rows[wanted.name].cast(wanted.type))
        else:
            columns.append(pa.nulls(rows.num_rows, wanted.type))
    return pa.table(columns, names=_FILE.names)


def _spread(values: pa.Array[Any], batch: pa.Array[Any]) -> pa.Array[Any]:
    """Return each row's value, given each batch's and each row's batch."""
    if not pa.types.is_string(values.type):
        return values.take(batch)
    distinct = values.dictionary_encode()
    return pa.DictionaryArray.from_arrays(distinct.indices.take(batch), distinct.dictionary)


def _rejected_rows(rejected: Sequence[Sequence[Rejected]]) -> pa.Table:
    rows = [
        {"batch": index, "line": line.line, "code": line.code, "detail": line.detail, "raw": line.raw}
        for index, lines in enumerate(rejected)
        for line in lines
    ]
    return pa.Table.from_pylist(rows, schema=_FILE)
