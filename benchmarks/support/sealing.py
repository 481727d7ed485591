"""What sealing costs and what it gives: rows a CPU-second, bytes an event, and how fast a path's events are found."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import polars as pl

from lake.encoding import encode
from lake.files import put_file
from lake.frames import frame_schema, to_rows
from lake.lookup import touches
from lake.settings import LakeSettings
from pipelines.seal import seal_day
from pipelines.tables import TenantTables
from tenancy.database import open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

TENANT: Final = "bench"
_LOOKED_UP: Final = 15
_DAY_US: Final = 86_400_000_000


def real_paths(most: int = 100_000) -> list[str]:
    """Return paths of this machine's own files: made-up ones compress as nothing real does."""
    found: list[str] = []
    for folder, _, names in os.walk("/usr"):
        found += [f"{folder}/{name}" for name in names if name.isascii()]
        if len(found) >= most:
            break
    return found[:most]


def day_rows(day: date, rows: int, paths: list[str], rng: np.random.Generator) -> pl.DataFrame:
    """Return a day's events of ten hosts in the order in which they happened; some files are far busier than others."""
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
    busy = rng.zipf(1.2, rows) % len(paths)
    times = np.sort(rng.integers(0, _DAY_US, rows)) + start
    process = rng.zipf(1.5, rows) % 60
    host = rng.integers(0, 10, rows)
    order = pl.Series(paths).sample(fraction=1, shuffle=True, seed=7)
    given = pl.DataFrame(
        {
            "time": times,
            "monotonic_ns": (times - start) * 1_000 + 7_000_000_000,
            "operation": np.asarray(["open", "write", "create", "delete", "rename"])[rng.zipf(1.6, rows) % 5],
            "path": order.gather(busy),
            "path_status": ["resolved"] * rows,
            "file_type": ["regular"] * rows,
            "mode": np.where(rng.random(rows) < 0.1, 0o644, 0o755),
            "flags": rng.choice(np.asarray([0, 0o1, 0o102, 0o2000000]), rows),
            "result": np.zeros(rows, np.int32),
            "count": np.minimum(rng.zipf(2.5, rows), 1_000),
            "uid": 1000 + process % 3, "euid": 1000 + process % 3, "gid": 1000 + process % 3,
            "pid": process * 40 + rng.integers(300, 340, rows),
            "ppid": process + 1,
            "process": np.asarray([f"proc-{number}" for number in range(60)])[process],
            "exe": np.asarray([f"/usr/bin/proc-{number}" for number in range(60)])[process],
            "mount_ns": np.full(rows, 4_026_531_840),
            "inode": busy + 100_000,
            "dev": np.full(rows, 64_769),
            "cpu": rng.integers(0, 4, rows),
            "seq": np.arange(rows),
            "agent_id": np.asarray([f"agt_{number:016x}" for number in range(10)])[host],
            "hostname": np.asarray([f"host-{number}" for number in range(10)])[host],
            "boot_id": np.asarray([f"00000000-0000-0000-0000-{number:012d}" for number in range(10)])[host],
            "load_id": np.asarray([f"00000000-0000-0000-0001-{number:012d}" for number in range(10)])[host],
            "batch_seq": np.arange(rows) // 500 + 1,
            "received_at": times + 2_000_000 - times % 2_000_000,
            "event_day": [day] * rows,
        }
    )  # fmt: skip
    return given.select(
        (pl.col(name).cast(kind) if name in given.columns else pl.lit(None, kind).alias(name))
        for name, kind in frame_schema("events").items()
    )


def measure(days: int, rows: int) -> dict[str, Any]:
    """Land, seal and look up `days` days of `rows` events, beside the same rows as they come in plain Parquet."""
    with tempfile.TemporaryDirectory(prefix="kaimon-bench-") as name:
        folder = Path(name)
        lake, database = LakeSettings(home=folder), open_database(TenancySettings(home=folder))
        try:
            create_tenant(database, TENANT, subscription="active")
            tables = TenantTables(database, TENANT, "benchmark", lake)
            rng, paths = np.random.default_rng(7), real_paths()
            last = datetime.now(UTC).date() - timedelta(days=2)
            span = [last - timedelta(days=back) for back in reversed(range(days))]
            costs, sealed_bytes = [], 0
            (folder / "plain").mkdir()
            for day in span:
                frame = day_rows(day, rows, paths, rng)
                frame.write_parquet(_plain(folder, day), compression="zstd", compression_level=3)
                _land(frame, day, tables)
                began = time.process_time()
                sealed_bytes += seal_day(tables, day)["bytes"]
                costs.append(time.process_time() - began)
            middle = pl.read_parquet(_plain(folder, span[days // 2]), columns=["path"])
            wanted = middle["path"].unique().sort().sample(_LOOKED_UP, seed=7).to_list()
            return {
                "seal_days": days,
                "seal_rows": days * rows,
                "seal_rows_per_cpu_s": round(rows / statistics.median(costs)),
                "bytes_per_event": round(sealed_bytes / (days * rows), 2),
                "bytes_per_event_plain": round(
                    sum(path.stat().st_size for path in (folder / "plain").iterdir()) / (days * rows), 2
                ),
                "bytes_per_event_duckdb": round(_duckdb(folder, span) / rows, 2),
                **_look_up(folder, lake, span, wanted),
                **_chdb(folder, span, rows, wanted),
            }
        finally:
            database.close()


def _plain(folder: Path, day: date) -> Path:
    return folder / "plain" / f"{day}.parquet"


def _land(frame: pl.DataFrame, day: date, tables: TenantTables) -> None:
    part: Any
    files = []
    for part in frame.iter_slices(-(-frame.height // 4)):
        told = part.height, part["time"].min(), part["time"].max()
        files.append(
            put_file(TENANT, "events", day, encode([to_rows(part, "events")], "events"), told, tables.settings)
        )
    with tables.writer() as writer:
        writer.append_files("events", files)


def _median(work: Callable[[str], int], wanted: list[str]) -> tuple[float, int]:
    """Return the median seconds of looking up each path, and the rows found in all."""
    took, found = [], 0
    for path in wanted:
        began = time.perf_counter()
        found += work(path)
        took.append(time.perf_counter() - began)
    return statistics.median(took), found


def _look_up(folder: Path, lake: LakeSettings, span: list[date], wanted: list[str]) -> dict[str, Any]:
    unsorted = pl.scan_parquet([_plain(folder, day) for day in span])

    def plain(path: str) -> int:
        return unsorted.filter((pl.col("path") == path) | (pl.col("target_path") == path)).collect().height

    def sealed(path: str) -> int:
        return touches(TENANT, path, span[0], span[-1], lake).height

    plain(wanted[0]), sealed(wanted[0])
    (sealed_s, found), (plain_s, also) = _median(sealed, wanted), _median(plain, wanted)
    if found != also:
        raise SystemExit(f"{found} rows found in sealed days, {also} in plain files")
    return {
        "path_lookup_ms": round(sealed_s * 1000, 1),
        "path_lookup_plain_ms": round(plain_s * 1000, 1),
        "path_lookup_speedup": round(plain_s / sealed_s, 2),
    }


def _duckdb(folder: Path, span: list[date]) -> float:
    """Return the bytes of one day as DuckDB writes it, in the same order and with the same compression."""
    day, target = span[len(span) // 2], folder / "duckdb.parquet"
    with duckdb.connect() as connection:
        connection.read_parquet(str(_plain(folder, day))).order("path, time").write_parquet(
            str(target), compression="zstd"
        )
    return target.stat().st_size


def _chdb(folder: Path, span: list[date], rows: int, wanted: list[str]) -> dict[str, Any]:
    """Return what ClickHouse makes of the same rows, if `chdb` is installed: it takes 800 MB, so bootstrap does not."""
    try:
        from chdb.session import Session  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        print("chdb is not installed: no figures of ClickHouse (uv pip install chdb)", file=sys.stderr)
        return {}
    session = Session(str(folder / "chdb"))
    session.query("CREATE DATABASE b")
    source = f"file('{folder}/plain/*.parquet', Parquet)"
    required = ("path", "time", "event_day")
    exact = ", ".join(f"assumeNotNull({name}) AS {name}" for name in required)
    session.query(
        "CREATE TABLE b.events ENGINE = MergeTree PARTITION BY event_day ORDER BY (path, time) "
        f"SETTINGS default_compression_codec = 'ZSTD(3)' AS SELECT * REPLACE ({exact}) FROM {source}"
    )
    session.query("OPTIMIZE TABLE b.events FINAL")
    size = int(str(session.query("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'events'")))

    def look(path: str) -> int:
        quoted = path.replace("\\", "\\\\").replace("'", "\\'")
        asked = f"SELECT * FROM b.events WHERE path = '{quoted}' OR target_path = '{quoted}'"
        return str(session.query(asked, "CSV")).count("\n")

    look(wanted[0])
    took, _ = _median(look, wanted)
    session.close()
    return {
        "bytes_per_event_chdb": round(size / (len(span) * rows), 2),
        "path_lookup_chdb_ms": round(took * 1000, 1),
    }
