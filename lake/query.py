"""A person's query: one SELECT over one tenant's tables and one range of time, in a process that can do nothing else.

The process (`lake.sandbox`) is killed at the time limit: some things a query can ask for cannot be interrupted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from kaimon.base.access import accessing
from kaimon.base.clock import utc_now
from kaimon.base.logs import get_logger
from lake.clients import delta_options
from lake.coverage import Coverage, coverage
from lake.settings import LakeSettings
from lake.tables import table_uri

MAX_SQL_BYTES: Final = 100_000
MAX_RESULT_BYTES: Final = 64 << 20
"""What a query's text and its rows may measure; more rows than that are cut."""

_PROGRAM: Final = "from lake.lean import without_pandas; without_pandas(); from lake.sandbox import main; main()"
_DIED: Final = "the query died, most likely of taking more memory than it may"
_PASSED: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "TZDIR")


class QueryError(Exception):
    """Why a query was refused or gave up, in words for the one who asked."""


@dataclass(frozen=True)
class QueryResult:
    """The rows of a query, what was cut off, and how much of what happened in its range they can speak of."""

    columns: list[str]
    table: pa.Table
    truncated: bool
    coverage: Coverage

    def rows(self) -> list[list[Any]]:
        """Return the rows with times as ISO 8601 text, whatever their year; everything else as Python has it."""
        columns = [_plain(column) for column in self.table.columns]
        return [list(row) for row in zip(*columns, strict=True)]


def run_query(
    tenant: str, sql: str, first: datetime, last: datetime, settings: LakeSettings | None = None
) -> QueryResult:
    """Run one SELECT over a tenant's tables, as they are between two moments.

    Args:
        tenant: whose tables; no other's can be named.
        sql: in DuckDB's dialect. Tables are those of `lake.schema.TABLES`.
        first: rows from this moment on (aware).
        last: rows before this moment (aware).
        settings: where the lake is, and the limits.

    Raises:
        QueryError: it is not one SELECT, is wrong, asks for what is not allowed, or met a limit.
        ValueError: the tenant's id is not one, or a moment is not aware.
    """
    settings = settings or LakeSettings()
    table_uri(tenant, "events", settings)
    if first.tzinfo is None or last.tzinfo is None:
        raise ValueError("the range must be aware of its time zone")
    first, last = first.astimezone(UTC), last.astimezone(UTC)
    if first >= last:
        raise QueryError("the range is empty: it must begin before it ends")
    if len(sql.encode("utf-8", "surrogateescape")) > MAX_SQL_BYTES:
        raise QueryError(f"the query is longer than {MAX_SQL_BYTES} bytes")
    request = {
        "tenant": tenant,
        "sql": sql.encode("utf-8", "replace").decode(),
        "first": first.isoformat(),
        "last": last.isoformat(),
        "lake_url": settings.lake_url,
        "options": delta_options(tenant, settings),
        "row_limit": settings.query_row_limit,
        "byte_limit": MAX_RESULT_BYTES,
        "memory_bytes": settings.query_memory_bytes,
        "threads": settings.query_threads,
        "time_limit_s": settings.query_time_limit_s,
    }
    with accessing("storage", "lake.query", tenant, f"{first:%Y-%m-%dT%H:%M:%SZ}..{last:%Y-%m-%dT%H:%M:%SZ}") as said:
        answer = _ask(request, settings.query_time_limit_s)
        said.bytes = len(answer)
        stream, status = _unpack(answer)
        if "error" in status:
            raise QueryError(str(status["error"]))
    table = pa.ipc.open_stream(stream).read_all()
    told = coverage(tenant, first, last, utc_now(), settings)
    return QueryResult(table.column_names, table, bool(status["truncated"]), told)


def _ask(request: dict[str, Any], time_limit_s: float) -> bytes:
    """Return what the sandbox wrote.

    Raises:
        QueryError: it did not end in time, or died.
    """
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    environment |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "HOME": "/nonexistent"}
    command = [sys.executable, "-B", "-c", _PROGRAM]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    # The program is this very interpreter and the query travels on its standard input.
    with subprocess.Popen(command, env=environment, **pipes) as process:  # noqa: S603
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        deadline = threading.Timer(time_limit_s, kill)
        deadline.start()
        try:
            answer = _exchange(process, json.dumps(request).encode())
        finally:
            deadline.cancel()
            process.kill()
    if process.returncode == 0:
        return answer
    if late.is_set():
        raise QueryError(f"the query took longer than {time_limit_s:g} s")
    get_logger(__name__).error("query_died", tenant=request["tenant"], returncode=process.returncode)
    raise QueryError(_DIED)


def _exchange(process: subprocess.Popen[bytes], request: bytes) -> bytes:
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise RuntimeError("the sandbox has no pipes")
    try:
        stdin.write(request)
        stdin.close()
    except BrokenPipeError:
        return b""
    answer = _read_bounded(stdout)
    process.wait()
    return answer


def _read_bounded(stdout: IO[bytes]) -> bytes:
    """Read to the end; the sandbox holds to the limit, a sandbox that was taken over might not."""
    answer = stdout.read(2 * MAX_RESULT_BYTES)
    if stdout.read(1):
        raise QueryError("the result is too large")
    return answer


def _unpack(answer: bytes) -> tuple[BytesIO, dict[str, Any]]:
    """Split the rows from the line that says how it went."""
    stream, _, last = answer.rstrip(b"\n").rpartition(b"\n")
    try:
        status = json.loads(last)
    except ValueError:
        status = {"error": _DIED}
    return BytesIO(stream), status


def _plain(column: pa.ChunkedArray[Any]) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        text: Any = pc.cast(column, pa.string())
        return [value and value.replace(" ", "T", 1) for value in text.to_pylist()]
    if pa.types.is_date(column.type):
        return list(pc.cast(column, pa.string()).to_pylist())
    return list(column.to_pylist())
