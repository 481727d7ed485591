from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from lake import sandbox
from lake.commits import Writer
from lake.frames import frame_schema
from lake.query import QueryError, QueryResult, run_query
from lake.schema import TABLES
from lake.segments import encode_segment, read_segment
from lake.settings import LakeSettings

Ask = Callable[..., QueryResult]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, staging: ModuleType) -> Path:
    """A lake of two tenants: acme's events are at noon and an hour later, beta's hold a secret."""
    home = tmp_path_factory.mktemp("home")
    settings = LakeSettings(home=home)
    for tenant, path in (("acme", "/acme"), ("beta", "/beta-secret")):
        early = staging.Batch(1, tuple({"seq": index, "path": path} for index in range(3)))
        late = staging.Batch(2, ({"seq": 3, "path": path},), received=staging.later(hours=1))
        for one in (early, late):
            events = read_segment(encode_segment("n1", 1, tenant, [one.part()])).events
            Writer(tenant, 1, settings).append("events", events.select(frame_schema("events").names()))
    return home


@pytest.fixture
def ask(home: Path, staging: ModuleType) -> Ask:
    def run(sql: str, tenant: str = "acme", hours: float = 2, **limits: Any) -> QueryResult:
        first = staging.NOON - timedelta(hours=1)
        return run_query(tenant, sql, first, first + timedelta(hours=1 + hours), LakeSettings(home=home, **limits))

    return run


@pytest.fixture
def inside(home: Path, staging: ModuleType) -> Callable[[str], pa.Table]:
    """Run a statement inside the sandbox's database, in this process: what its locks alone hold back."""
    request = {
        "tenant": "acme",
        "first": (staging.NOON - timedelta(hours=1)).isoformat(),
        "last": (staging.NOON + timedelta(hours=2)).isoformat(),
        "lake_url": LakeSettings(home=home).lake_url,
        "memory_bytes": 256 << 20,
        "threads": 1,
        "row_limit": 1000,
        "byte_limit": 1 << 20,
    }
    connection = sandbox.connect(request)

    def run(sql: str) -> pa.Table:
        target = io.BytesIO()
        sandbox.answer(connection, request | {"sql": sql}, target)
        return pa.ipc.open_stream(target.getvalue()).read_all()

    return run


def test_a_query_sees_its_tenants_rows_and_only_those(ask: Ask) -> None:
    sql = "SELECT DISTINCT path FROM events"
    assert ask(sql).rows() == [["/acme"]]
    assert ask(sql, tenant="beta").rows() == [["/beta-secret"]]
    assert ask(sql, tenant="nobody").rows() == []


def test_every_table_can_be_asked_and_no_other_is_there(inside: Callable[[str], pa.Table]) -> None:
    assert inside("SHOW TABLES")["name"].to_pylist() == sorted(TABLES)
    for name in TABLES:
        assert inside(f"SELECT * FROM {name}").column_names == TABLES[name].schema.names


@pytest.mark.parametrize(("hours", "seen"), [(0, 3), (0.5, 3), (1, 4), (2, 4)])
def test_the_range_bounds_the_rows(ask: Ask, hours: float, seen: int) -> None:
    assert ask("SELECT count(*) FROM events", hours=hours).rows() == [[seen]]


def test_an_empty_or_naive_range_is_refused(home: Path, staging: ModuleType) -> None:
    settings = LakeSettings(home=home)
    with pytest.raises(QueryError, match="range is empty"):
        run_query("acme", "SELECT 1", staging.NOON, staging.NOON, settings)
    with pytest.raises(ValueError, match="aware"):
        run_query("acme", "SELECT 1", datetime(2026, 1, 1), staging.NOON, settings)  # noqa: DTZ001
    with pytest.raises(ValueError, match="not a tenant"):
        run_query("../beta", "SELECT 1", staging.NOON, staging.later(hours=1), settings)


def test_there_are_no_secrets_to_be_found(inside: Callable[[str], pa.Table]) -> None:
    assert inside("SELECT * FROM duckdb_secrets()").num_rows == 0
    assert inside("SELECT * FROM which_secret('s3://x', 's3')").num_rows == 0


def test_times_come_as_text_whatever_their_year(ask: Ask) -> None:
    result = ask("SELECT time, event_day, TIMESTAMP '12026-01-01' AS far FROM events ORDER BY seq LIMIT 1")
    assert result.rows() == [["2026-03-10T11:59:59.000000Z", "2026-03-10", "12026-01-01T00:00:00.000000"]]


def test_hours_and_days_of_the_tables_are_told_by_utc(inside: Callable[[str], pa.Table]) -> None:
    answer = inside("SELECT DISTINCT date_trunc('day', time)::VARCHAR AS day, event_day::VARCHAR AS d FROM events")
    assert answer.to_pylist() == [{"day": "2026-03-10 00:00:00+00", "d": "2026-03-10"}]


REFUSED = (
    # other tenants, files
    "SELECT * FROM delta_scan('{lake}/beta/events')",
    "SELECT * FROM read_parquet('{lake}/beta/events/*/*.parquet')",
    "SELECT * FROM '{lake}/beta/events/*/*.parquet'",
    "SELECT * FROM parquet_metadata('{lake}/beta/events/x.parquet')",
    "SELECT * FROM beta.events",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM read_ndjson('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM read_duckdb('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM '/etc/passwd'",
    "FROM '/etc/passwd'",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('/etc/passwd')",
    "WITH a AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM a",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "SELECT getenv('PATH')",
    "SELECT * FROM request",
    "SELECT * FROM connection",
    # the network
    "SELECT * FROM read_parquet('http://127.0.0.1:{port}/x.parquet')",
    "SELECT * FROM read_csv('https://127.0.0.1:{port}/x.csv')",
    "SELECT * FROM read_text('http://127.0.0.1:{port}/x')",
    "SELECT * FROM 's3://127.0.0.1:{port}/x.parquet'",
    "SELECT * FROM postgres_scan('host=127.0.0.1 port={port}', 'a', 'b')",
    "SELECT * FROM sqlite_scan('{lake}/../control.db', 'tenants')",
    # writing and other statements
    "COPY (SELECT 1) TO '{out}/x.csv'",
    "COPY events TO '{out}/x.parquet' (FORMAT parquet)",
    "COPY events FROM '/etc/passwd'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}/x.csv'",
    "EXPORT DATABASE '{out}/x'",
    "IMPORT DATABASE '{out}/x'",
    "ATTACH '{out}/x.db' AS x",
    "ATTACH '{lake}/../control.db' AS x",
    "ATTACH ':memory:' AS x",
    "DETACH memory",
    "USE memory",
    "INSTALL httpfs",
    "FORCE INSTALL httpfs FROM 'http://127.0.0.1:{port}'",
    "LOAD httpfs",
    "LOAD '{out}/x.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET GLOBAL allowed_directories = ['/']",
    "SET memory_limit = '100GB'",
    "SET VARIABLE x = 1",
    "RESET lock_configuration",
    "PRAGMA enable_external_access",
    "PRAGMA database_list",
    "PRAGMA threads = 64",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE OR REPLACE VIEW events AS SELECT 1",
    "CREATE MACRO x() AS 1",
    "CREATE SECRET x (TYPE s3)",
    "CREATE PERSISTENT SECRET x (TYPE s3)",
    "INSERT INTO events SELECT * FROM events",
    "UPDATE events SET path = '/x'",
    "DELETE FROM events",
    "MERGE INTO events USING events AS e ON true WHEN MATCHED THEN DELETE",
    "WITH x AS (INSERT INTO events SELECT * FROM events RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM events RETURNING *) SELECT * FROM x",
    "DROP VIEW events",
    "ALTER VIEW events RENAME TO x",
    "TRUNCATE events",
    "CALL pragma_version()",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "COMMENT ON VIEW events IS 'x'",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{out}/x.csv'",
    "SELECT * FROM arrow_scan()",
    "SELECT * FROM pandas_scan()",
    "SELECT * FROM python_map_function((SELECT 1))",
    "",
    "-- nothing",
    "SELEC 1",
)


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.mark.parametrize("sql", REFUSED)
def test_nothing_but_reading_ones_own_tables_is_possible(
    inside: Callable[[str], pa.Table], home: Path, tmp_path: Path, listener: socket.socket, sql: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    filled = sql.format(lake=home / "lake", out=tmp_path, port=listener.getsockname()[1])
    with pytest.raises((sandbox.RefusedError, duckdb.Error)):
        inside(filled)
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert inside("SELECT count(*) AS n FROM events")["n"].to_pylist() == [4]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '{lake}/beta/events/*/*.parquet'",
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY events TO '{out}/x.csv'",
        "SET threads = 64",
    ],
)
def test_the_same_holds_for_a_whole_query(ask: Ask, home: Path, tmp_path: Path, sql: str) -> None:
    with pytest.raises(QueryError) as refusal:
        ask(sql.format(lake=home / "lake", out=tmp_path))
    assert "secret" not in str(refusal.value)
    assert "root:" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_the_process_itself_can_write_no_file_and_knows_no_secret(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAIMON_DATABASE_URL", "secret")
    program = (
        "import json, os, sys; request = json.load(sys.stdin); from lake.sandbox import confine; confine(request)\n"
        "told = 'it could write'\n"
        "try:\n"
        f"  with open({str(tmp_path / 'x')!r}, 'w') as file: file.write('x' * 9)\n"
        "except OSError as error: told = error.strerror + ' ' + ' '.join(sorted(os.environ))\n"
        "sys.stdout.write('\\n' + json.dumps({'error': told}))"
    )
    monkeypatch.setattr("lake.query._PROGRAM", program)
    with pytest.raises(QueryError, match="File too large") as told:
        ask("SELECT 1")
    assert "KAIMON" not in str(told.value)


def test_a_query_that_takes_too_long_is_stopped_even_where_it_cannot_be_interrupted(ask: Ask) -> None:
    for sql in ("SELECT count(*) FROM range(100000000) a, range(1000000) b", "SELECT repeat('x', 2000000000)"):
        with pytest.raises(QueryError, match=r"longer than 5 s|memory|Memory"):
            ask(sql, query_time_limit_s=5)


@pytest.mark.parametrize(
    "sql",
    ["SELECT list(i) FROM range(1000000000) t(i)", "SELECT repeat('x', 4000000000) || 'y' || i FROM range(9) t(i)"],
)
def test_a_query_that_takes_too_much_memory_is_stopped(ask: Ask, sql: str) -> None:
    with pytest.raises(QueryError, match=r"[Mm]emory|longer"):
        ask(sql, query_memory_bytes=64 << 20, query_time_limit_s=20)


def test_what_a_library_prints_while_a_query_runs_is_not_among_its_rows(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = "import os, lake.sandbox as s; a = s.answer; s.answer = lambda *o: (os.write(1, b'8% done'), a(*o))[1]; "
    monkeypatch.setattr("lake.query._PROGRAM", f"{noisy}s.main()")
    assert ask("SELECT count(*) AS n FROM events").rows() == [[4]]


def test_a_query_shows_no_progress_however_long_it_takes(ask: Ask) -> None:
    assert ask("SELECT current_setting('enable_progress_bar')").rows() == [[False]]


def test_rows_beyond_the_limit_are_cut_and_said_to_be(ask: Ask) -> None:
    cut = ask("SELECT * FROM range(2500)", query_row_limit=1001)
    assert (len(cut.rows()), cut.truncated) == (1001, True)
    whole = ask("SELECT * FROM range(1001)", query_row_limit=1001)
    assert (len(whole.rows()), whole.truncated) == (1001, False)


def test_bytes_beyond_the_limit_are_cut_too() -> None:
    batches = [pa.record_batch({"x": ["y" * 1000] * 100})] * 3
    reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
    kept = list(sandbox.limited(reader, 1000, 150_000))
    assert sum(batch.nbytes for batch, _ in kept) <= 150_000
    assert [cut for _, cut in kept] == [False, True]


def test_a_sandbox_that_dies_is_an_error_and_not_an_empty_answer(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("import os; os.kill(os.getpid(), 9)", "import os; os._exit(0)", "import sys; sys.exit(3)"):
        monkeypatch.setattr("lake.query._PROGRAM", program)
        with pytest.raises(QueryError, match="died"):
            ask("SELECT 1")
