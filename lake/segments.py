"""A staged segment: one Parquet file of the batches that one ingest process committed together for one tenant."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
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
from lake.implied import OF_BATCH, absent, column, constants_of, expressions
from lake.schema import EVENT_LINE, EVENTS
from lake.segment_writer import COUNTING, SQUEEZED, writer

FIRST_SEQUENCE: Final = 1
"""The number of a node's first segment for a tenant; each next one is one more."""

VERSION: Final = 2
"""The form of a segment that is written; a reader refuses what it does not know."""

_KNOWN: Final = (1, 2)
"""The first form held every column of every row."""

_METADATA: Final = b"kaimon.segment"
_KEY: Final = re.compile(r"([a-z][a-z0-9-]{1,38}[a-z0-9])/(?!lease/)([a-z0-9]+(?:[_-][a-z0-9]+)*)/([0-9]{12})\.parquet")
_OWN: Final[tuple[pa.Field[Any], ...]] = (
    pa.field("batch", pa.int32(), nullable=False),
    pa.field("line", pa.int32(), nullable=False),
    pa.field("code", pa.string()),
    pa.field("detail", pa.string()),
    pa.field("raw", pa.binary()),
)
ROWS: Final = pa.schema(
    [
        pa.field("line", pa.int32(), nullable=False),
        pa.field("event_day", pa.date32(), nullable=False),
        *table_schema([column for column in EVENTS if column.source == "event"]),
    ]
)
"""A batch's rows as a segment takes them: their lines in the body, their days, and what their lines say."""
_CODED: Final = pa.dictionary(pa.int32(), pa.string())
CODED_ROWS: Final = pa.schema([field.with_type(_CODED) if pa.types.is_string(field.type) else field for field in ROWS])
"""The same with all texts as dictionaries, which no null is in; a segment takes rows in either form."""


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
    replay_of: list[Any] | None = None
    """For lines that left quarantine: `[node, sequence]` of the segment that brought them."""
    released: bool = False
    """Somebody let these lines out as they are: landing takes them although they are outside its window."""

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
    """A segment as read: its batches, and its rows as bytes until they are asked for."""

    tenant: str
    node: str
    seq: int
    digest: str
    batches: list[BatchRecord] = dataclass_field(repr=False)
    data: bytes = dataclass_field(repr=False)
    constants: dict[str, int | str | None] = dataclass_field(default_factory=dict, repr=False)
    absent: tuple[str, ...] = dataclass_field(default=(), repr=False)
    """Columns that the file does not hold, since constants and records imply them."""

    @property
    def height(self) -> int:
        """Rows and refused lines."""
        return sum(record.rows + record.rejected for record in self.batches)

    def scan(self) -> pl.LazyFrame:
        """Return its events in the order in which they arrived: `batch` (index into `batches`), `line`, `EVENTS`.

        Reading them raises `polars.exceptions.PolarsError` where the bytes are damaged.
        """
        rows = self._rows()
        if any(record.rejected for record in self.batches):
            rows = rows.filter(pl.col("code").is_null())
        return rows.select("batch", "line", *(column.name for column in EVENTS))

    def table(self, names: list[str] | None = None) -> pa.Table:
        """Return all its rows, refused lines among them, as they arrived: `batch`, `line`, `EVENTS` but for the day.

        Texts are the dictionaries that they were staged as. `names` are the columns to read, all if not given.

        Raises:
            SegmentError: the bytes are damaged.
        """
        wanted = _LANDING if names is None else names
        # What is absent is told by the batch.
        there = [name for name in _LANDING if name not in self.absent and (name in wanted or name == "batch")]
        try:
            texts = [name for name in _TEXTS if name not in self.absent]
            rows = pq.ParquetFile(pa.BufferReader(self.data), read_dictionary=texts).read(there)
            if there == wanted:
                return rows
            batch = rows["batch"].combine_chunks()
            columns = [
                column(name, self.batches, self.constants, batch) if name in self.absent else rows[name]
                for name in wanted
            ]
            return pa.table(columns, wanted)
        except (pa.ArrowException, OSError) as error:
            raise SegmentError(f"{self.tenant}/{self.node}/{self.seq}: rows cannot be read: {error}") from error

    @property
    def events(self) -> pl.DataFrame:
        """The same, read."""
        return self.scan().collect()

    @property
    def rejected(self) -> pl.DataFrame:
        """Its refused lines in the order in which they arrived: `batch`, `line`, `code`, `detail`, `raw` (bytes)."""
        if not any(record.rejected for record in self.batches):
            return pl.DataFrame(schema=_OWN_FRAME)
        return self._rows().filter(pl.col("code").is_not_null()).select(_OWN_FRAME.names()).collect()

    def _rows(self) -> pl.LazyFrame:
        rows = pl.scan_parquet(self.data, glob=False)
        return rows.with_columns(expressions(self.absent, self.batches, self.constants))


def rows_of(events: pa.Table, lines: pa.Array[Any]) -> pa.Table:
    """Return events (`lake.schema.EVENT_LINE`) and the numbers of their lines as `ROWS`."""
    if not events.schema.equals(EVENT_LINE):
        raise ValueError("not the rows of an event's lines")
    # Drops the time of day, which a safe cast would refuse.
    days = pc.cast(pc.cast(events["time"], pa.timestamp("us")), pa.date32(), safe=False)
    columns: dict[str, Any] = dict(zip(events.schema.names, events.columns, strict=True))
    columns |= {"line": lines, "event_day": days}
    return pa.table([columns[field.name].cast(field.type) for field in ROWS], schema=ROWS)


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
    node: str,
    seq: int,
    tenant: str,
    parts: Sequence[tuple[BatchRecord, pa.Table, Sequence[Rejected]]],
    together: pa.Table | None = None,
) -> bytes:
    """Return a segment's bytes: Parquet, zstd 1 where it pays; the batches' headers are JSON in the file's metadata.

    Columns that the headers imply, or that have one value throughout (`constants` beside the headers), are left out.

    Args:
        node: the ingest process.
        seq: the segment's number at that node for that tenant.
        tenant: whose batches these are.
        parts: each batch with its event rows (`ROWS` or `CODED_ROWS`; what may be null is not looked at) and refused
            lines.
        together: the rows of all batches, one after the other, if they are at hand; each part's are this very table.

    Raises:
        ValueError: a part's rows are not of that shape, or do not agree with its record's counts.
    """
    segment_key(tenant, node, seq)
    for record, rows, rejected in parts:
        # As a rule they are equal in all, which costs a hundredth of looking at names and types.
        if not any(rows.schema.equals(shape) for shape in (ROWS, CODED_ROWS)) and (
            rows.schema.names != ROWS.names or rows.schema.types not in (ROWS.types, CODED_ROWS.types)
        ):
            raise ValueError(f"batch {record.batch_seq}: not rows of a batch")
        if (rows is not together and rows.num_rows != record.rows) or len(rejected) != record.rejected:
            raise ValueError(f"batch {record.batch_seq}: {rows.num_rows} rows and {len(rejected)} rejected lines")
    tables = [rows for _, rows, _ in parts] if together is None else [together]
    if sum(table.num_rows for table in tables) != sum(record.rows for record, _, _ in parts):
        raise ValueError(f"{sum(table.num_rows for table in tables)} rows, not as many as their batches say")
    records = [record for record, _, _ in parts]

    def head_of(constants: Mapping[str, int | str | None]) -> bytes:
        head = {"version": VERSION, "tenant": tenant, "node": node, "seq": seq}
        return msgspec.json.encode({**head, "batches": records, "constants": constants})

    some_rejected = any(rejected for _, _, rejected in parts)
    compiled = None if some_rejected or not any(record.rows for record in records) else writer()
    if compiled is not None:
        data = compiled.write(tables, [record.rows for record in records], _METADATA, head_of)
        if data is not None:
            return data
    return _by_parquet(parts, tables, head_of)


def _by_parquet(
    parts: Sequence[tuple[BatchRecord, pa.Table, Sequence[Rejected]]],
    tables: Sequence[pa.Table],
    head_of: Callable[[Mapping[str, int | str | None]], bytes],
) -> bytes:
    """Return a segment's bytes by Parquet's own writer, which also takes refused lines, and no rows at all."""
    events = _event_rows([record for record, _, _ in parts], tables)
    constants: dict[str, int | str | None] = {}
    if any(rejected for _, _, rejected in parts):
        # A refused line is a row without an event: these are few, and every column is there.
        rejects = _rejected_rows([rejected for _, _, rejected in parts])
        table = pa.concat_tables([_whole(events, parts, tables), rejects])
    else:
        table = events
        constants = constants_of(table)
        table = table.drop_columns(list(constants))
    # A file of Python's would be called for every page, by a thread that waits for the interpreter each time.
    target = pa.BufferOutputStream()
    with pq.ParquetWriter(target, table.schema, **_options(table.schema.names)) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_METADATA.decode(): head_of(constants).decode()})
    data: bytes = target.getvalue().to_pybytes()
    return data


def read_segment(data: bytes) -> Segment:
    """Return what `encode_segment` was given; rows are read when they are asked for.

    Raises:
        SegmentError: the bytes are not a segment, or one of another version.
    """
    try:
        file = pq.ParquetFile(BytesIO(data))
        head = json.loads((file.metadata.metadata or {})[_METADATA])
        if head["version"] not in _KNOWN:
            raise SegmentError(
                f"a segment of version {head['version']}; this program reads {', '.join(map(str, _KNOWN))}"
            )
        batches = [BatchRecord(**record) for record in head["batches"]]
        constants = dict(head["constants"]) if head["version"] > 1 else {}
        missing = tuple(absent(file.schema_arrow.names, _FILE.names, constants))
        digest = hashlib.sha256(data).hexdigest()
        segment = Segment(head["tenant"], head["node"], head["seq"], digest, batches, data, constants, missing)
        if missing and (head["version"] == 1 or any(record.rejected for record in batches)):
            raise SegmentError(f"columns are missing: {', '.join(missing)}")
        if file.metadata.num_rows != segment.height:
            raise SegmentError(f"{file.metadata.num_rows} rows where its batches say {segment.height}")
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise SegmentError(f"not a segment: {error}") from error
    return segment


# A refused line is a row without an event, so here every event column may be null.
_FILE: Final = pa.schema([*_OWN, *(field.with_nullable(True) for field in table_schema(EVENTS))])
_OWN_FRAME: Final = pl.DataFrame(pa.schema(list(_OWN)).empty_table()).schema
_TEXTS: Final = [column.name for column in EVENTS if column.kind == "string"]
_TEXT: Final = ROWS.get_field_index("path")
_LANDING: Final = ["batch", "line", *(column.name for column in EVENTS if column.name != "event_day")]


def _options(names: Sequence[str]) -> dict[str, Any]:
    """Return how a file with these columns is written."""
    return {
        "compression": {name: "zstd" if name in SQUEEZED else "none" for name in names},
        "compression_level": {name: 1 for name in names if name in SQUEEZED},
        "use_dictionary": [name for name in names if name not in COUNTING],
        "column_encoding": {name: "DELTA_BINARY_PACKED" for name in names if name in COUNTING},
        "write_statistics": False,
        # Arrow's own copy of the schema would hold the headers a second time.
        "store_schema": False,
    }


def _event_rows(records: Sequence[BatchRecord], tables: Sequence[pa.Table]) -> pa.Table:
    """Return the event rows of all batches, with their batch and line but without what the batches' records say.

    Columns without a null say so in their schema, and Parquet spends nothing on saying it row by row.
    """
    rows = _together(tables)
    given: dict[str, Any] = dict(zip(rows.schema.names, rows.columns, strict=True))
    given["batch"] = pa.concat_arrays(
        [pa.repeat(pa.scalar(number, pa.int32()), record.rows) for number, record in enumerate(records)]
    )
    names = [name for name in _FILE.names if name in given and name != "event_day"]
    fields = [pa.field(name, given[name].type, nullable=given[name].null_count > 0) for name in names]
    return pa.table([given[name] for name in names], schema=pa.schema(fields))


def _together(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all batches; texts of which some came as dictionaries have one, and are one piece each."""
    if all(pa.types.is_string(rows.schema.types[_TEXT]) for rows in tables):
        return tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    coded = [rows if rows.schema.types[_TEXT] == _CODED else _encoded(rows) for rows in tables]
    # Parquet's writer leaves off with dictionaries where it meets another.
    return pa.concat_tables(coded).unify_dictionaries().combine_chunks()


def _encoded(rows: pa.Table) -> pa.Table:
    columns: Any = [
        rows[n].dictionary_encode() if kind == pa.string() else rows[n] for n, kind in enumerate(ROWS.types)
    ]
    return pa.table(columns, schema=CODED_ROWS)


def _whole(rows: pa.Table, parts: Sequence[tuple[BatchRecord, Any, Any]], tables: Sequence[pa.Table]) -> pa.Table:
    """Return event rows with every column of a file."""
    batch = rows["batch"].combine_chunks()
    records = [record for record, _, _ in parts]
    columns: dict[str, Any] = dict(zip(rows.schema.names, rows.columns, strict=True))
    columns |= {name: column(name, records, {}, batch) for name in OF_BATCH}
    columns["event_day"] = pa.chunked_array(
        [chunk for table in tables for chunk in table["event_day"].chunks], pa.date32()
    )
    nothing: Any = [pa.nulls(rows.num_rows, field.type) for field in _OWN[2:]]
    columns |= dict(zip((field.name for field in _OWN[2:]), nothing, strict=True))
    return pa.table([columns[name] for name in _FILE.names], _FILE.names).cast(_FILE)


def _rejected_rows(rejected: Sequence[Sequence[Rejected]]) -> pa.Table:
    rows = [
        {"batch": index, "line": line.line, "code": line.code, "detail": line.detail, "raw": line.raw}
        for index, lines in enumerate(rejected)
        for line in lines
    ]
    return pa.Table.from_pylist(rows, schema=_FILE)
