"""The process in which a query runs: one tenant's tables, no files, no network, no other statement than one SELECT.

Reads a JSON request from standard input; writes Arrow's stream format and then a line of JSON to standard output:
`{"truncated": …}` or `{"error": …}`. Started by `lake.query`, which says what the limits are and kills it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from lake.schema import TABLES, Table
from lake.settings import LakeSettings
from lake.tables import open_table

TIME_COLUMN: Final = {
    "events": "time",
    "batches": "received_at",
    "quarantine": "received_at",
    "completeness": "hour",
    "activity": "hour",
    **dict.fromkeys(
        ("top_paths", "processes", "users", "sensitive", "new_behaviour", "findings", "seals"), "event_day"
    ),
    "acts": "at",
    "facts": "period_start",
    "summaries": "period_start",
    "deliveries": "period_start",
}
"""What a query's range bounds in each table; `hosts` is what it is, whatever the range."""

_BATCH_ROWS: Final = 1_000
_OVERHEAD_BYTES: Final = 4 << 30
"""Address space beyond the query's own memory: libraries, threads' stacks, decoded Parquet."""


class RefusedError(Exception):
    """A query that will not be run, and why."""


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    # Whatever a library prints, in Python or not, must not land among the rows.
    target = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        connection = connect(request)
        confine(request)
        status: dict[str, Any] = {"truncated": answer(connection, request, target)}
    except (RefusedError, duckdb.Error) as error:
        status = {"error": str(error)[:2_000]}
    except (MemoryError, pa.ArrowMemoryError):
        status = {"error": "the query took more memory than it may"}
    except Exception as error:  # noqa: BLE001 - the one who asked gets an answer whatever went wrong
        status = {"error": f"the query failed: {type(error).__name__}"}
    target.write(b"\n" + json.dumps(status).encode() + b"\n")
    target.flush()


def confine(request: dict[str, Any]) -> None:
    """Bound what the process may take; it writes no file, whatever the query brings it to try."""
    memory = request["memory_bytes"] + _OVERHEAD_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = int(request["time_limit_s"] * request["threads"]) + 10
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def connect(request: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """Return a database in memory that holds the tenant's tables and nothing else, its settings locked."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "enable_external_access": "false",
            "autoload_known_extensions": "false",
            "autoinstall_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
            "python_enable_replacements": "false",
            "memory_limit": f"{request['memory_bytes']}B",
            "threads": str(request["threads"]),
            "temp_directory": "",
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")  # on by default, as `python -c` passes for a terminal
    settings = LakeSettings(lake_url=request["lake_url"])
    first, last = datetime.fromisoformat(request["first"]), datetime.fromisoformat(request["last"])
    for table in TABLES.values():
        connection.register(
            table.name, bounded(table, request["tenant"], first, last, settings, request.get("options"))
        )
    connection.execute("SET lock_configuration = true")
    return connection


def bounded(  # noqa: PLR0917 - what a query sees
    table: Table,
    tenant: str,
    first: datetime,
    last: datetime,
    settings: LakeSettings,
    options: dict[str, str] | None = None,
) -> ds.Dataset:
    """Return a tenant's table between two moments; an hour or a day counts if any part of it is between them."""
    handle = open_table(tenant, table.name, settings, options)
    if handle is None:
        return ds.dataset(table.schema.empty_table())
    days: list[tuple[str, str, str]] | None = None
    if table.partition is not None:
        days = [(table.partition, ">=", first.date().isoformat()), (table.partition, "<=", last.date().isoformat())]
    rows = handle.to_pyarrow_dataset(file_pruning_predicate=days)
    column = TIME_COLUMN.get(table.name)
    if column is None:
        return rows
    time = ds.field(column)
    if column == table.partition:
        return rows.filter((time >= pa.scalar(first.date())) & (time <= pa.scalar(last.date())))
    if column == "hour":
        first = first.replace(minute=0, second=0, microsecond=0)
    moment = pa.timestamp("us", "UTC")
    return rows.filter((time >= pa.scalar(first, moment)) & (time < pa.scalar(last, moment)))


def answer(connection: duckdb.DuckDBPyConnection, request: dict[str, Any], target: Any) -> bool:
    """Run the query and write its rows; return whether some were cut off.

    Raises:
        RefusedError: it is not one SELECT.
        duckdb.Error: it is wrong, or not allowed.
    """
    statements = connection.extract_statements(request["sql"])
    if len(statements) != 1 or not _is_select(statements[0]):
        raise RefusedError("a query is one SELECT statement, and nothing else")
    reader: Any = connection.sql(statements[0]).to_arrow_reader(_BATCH_ROWS)
    truncated = False
    with pa.ipc.new_stream(target, reader.schema) as writer:
        for batch, cut in limited(reader, request["row_limit"], request["byte_limit"]):
            writer.write_batch(batch)
            truncated = cut
    return truncated


def _is_select(statement: duckdb.Statement) -> bool:
    try:
        return bool(statement.type is duckdb.StatementType.SELECT)
    except ValueError:
        # A kind of statement that DuckDB's own enumeration does not know.
        return False


def limited(reader: pa.RecordBatchReader, rows: int, size: int) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """Yield batches until a limit, and with each whether something was cut off in it or after it."""
    for batch in reader:
        fits = batch.slice(0, rows)
        while fits.nbytes > size:
            fits = fits.slice(0, fits.num_rows // 2)
        rows -= fits.num_rows
        size -= fits.nbytes
        cut = fits.num_rows < batch.num_rows
        yield fits, cut
        if cut:
            return
