"""What Spark takes to write the rows that we land into a Delta table of its own: its JVM is started and ended here."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeAlias

import polars as pl

from lake.settings import LakeSettings
from lake.tables import table_place
from pipelines.landing.land import land_tenant
from tenancy.database import open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

TENANT: Final = "bench"
JARS: Final = sorted((Path(__file__).parents[2] / "build" / "spark").glob("delta-*.jar"))
SPARK: Final = {
    "spark.jars": ",".join(map(str, JARS)),
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
"""What Spark is told to read and write Delta's tables here, and to listen to nobody else."""
_FILE_ROWS: Final = 1_000_000
_WARM_ROWS: Final = 200_000

Took: TypeAlias = tuple[float, float]
"""Seconds by the clock, and CPU-seconds."""


def measure(rows: int, rounds: int, stage: Callable[[LakeSettings, str, int], None]) -> dict[str, Any]:
    """Land `rows` events and let Spark write the same, taking turns; empty where Spark, its jars or Java are missing.

    Args:
        rows: events of each round.
        rounds: how often each does it; figures are medians.
        stage: stages so many rows of a tenant in the lake it is given.
    """
    if importlib.util.find_spec("pyspark") is None or not JARS or shutil.which("java") is None:
        print("Spark or Delta's jars are not there: no figures of Spark (script/bootstrap bench)", file=sys.stderr)
        return {}
    ours: list[Took] = []
    theirs: list[Took] = []
    with tempfile.TemporaryDirectory(prefix="kaimon-bench-") as name:
        folder = Path(name)
        stage(LakeSettings(home=folder), TENANT, rows)
        # Spark is given what the first round landed: the rows of the table, all columns of it.
        ours.append(_land(folder, 0, rows))
        _write_plain(folder, rows)
        with _spark(folder) as write:
            write(folder / "plain" / "warm", folder / "spark-warm")
            for number in range(rounds):
                if number % 2 == 1:
                    ours.append(_land(folder, number, rows))
                theirs.append(write(folder / "plain" / "rows", folder / f"spark-{number}"))
                _check(str(folder / f"spark-{number}"), rows)
                if number % 2 == 0 and number > 0:
                    ours.append(_land(folder, number, rows))
    clock, cpu = ([(we[at], they[at]) for we, they in zip(ours, theirs, strict=True)] for at in (0, 1))
    return {
        "spark_rows": rows,
        "spark_rounds": rounds,
        "landing_beside_spark_rows_per_s": round(rows / statistics.median(we for we, _ in clock)),
        "spark_rows_per_s": round(rows / statistics.median(they for _, they in clock)),
        "speedup_over_spark": round(statistics.median(they / we for we, they in clock), 2),
        "speedup_over_spark_cpu": round(statistics.median(they / we for we, they in cpu), 2),
    }


def _land(folder: Path, number: int, rows: int) -> Took:
    """Return what landing takes in a lake of its own that has the staged segments."""
    home = folder / f"home-{number}"
    shutil.copytree(folder / "staging", home / "staging")
    lake, database = LakeSettings(home=home), open_database(TenancySettings(home=home))
    try:
        create_tenant(database, TENANT, subscription="active")
        began, cpu = time.perf_counter(), time.process_time()
        land_tenant(database, TENANT, "benchmark", lake)
        took = time.perf_counter() - began, time.process_time() - cpu
    finally:
        database.close()
    _check(table_place(TENANT, "events", lake), rows)
    return took


def _check(place: str, rows: int) -> None:
    """End the benchmark if the Delta table at `place` does not have that many rows."""
    found = pl.scan_delta(place).select(pl.len()).collect().item()
    if found != rows:
        raise SystemExit(f"{place} has {found} of {rows} rows")


def _write_plain(folder: Path, rows: int) -> None:
    """Write what the first round landed as plain Parquet: in files of a million, and some of it to warm up with."""
    landed = pl.scan_delta(table_place(TENANT, "events", LakeSettings(home=folder / "home-0")))
    for name, step, end in (("warm", _WARM_ROWS, min(_WARM_ROWS, rows)), ("rows", _FILE_ROWS, rows)):
        (folder / "plain" / name).mkdir(parents=True)
        for first in range(0, end, step):
            part = landed.slice(first, step).collect()
            part.write_parquet(folder / "plain" / name / f"{first:09d}.parquet", compression="zstd")


@contextmanager
def _spark(folder: Path) -> Iterator[Callable[[Path, Path], Took]]:
    """Have a process with Spark, and give what lets it write the Parquet files of a folder to a new Delta table."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, str(folder)), daemon=True)
    process.start()
    there.close()

    def write(source: Path, target: Path) -> Took:
        here.send((str(source), str(target)))
        try:
            took: Took = here.recv()
        except EOFError:
            raise SystemExit("Spark ended before its time") from None
        return took

    try:
        yield write
    finally:
        here.close()
        process.join()


def _serve(pipe: Connection, folder: str) -> None:
    """Start Spark and write what is asked for until the pipe is closed; then end it."""
    # Through importlib: Spark need not be there for the types to be checked.
    builder: Any = importlib.import_module("pyspark.sql").SparkSession.builder.master("local[2]")
    told = SPARK | {
        "spark.sql.parquet.compression.codec": "zstd",
        # Else Spark sorts all rows by day before it writes them.
        "spark.sql.maxConcurrentOutputFileWriters": "8",
        "spark.driver.memory": "4g",
        "spark.local.dir": f"{folder}/spark-local",
        "spark.sql.warehouse.dir": f"{folder}/spark-warehouse",
        "spark.log.level": "ERROR",
    }
    for name, value in told.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    gateway = session.sparkContext._gateway  # noqa: SLF001 - nothing else tells of the process
    try:
        while True:
            source, target = pipe.recv()
            began, cpu = time.perf_counter(), _cpu_of(gateway.proc.pid)
            rows = session.read.parquet(source)
            rows.write.format("delta").mode("append").partitionBy("event_day").save(target)
            pipe.send((time.perf_counter() - began, _cpu_of(gateway.proc.pid) - cpu))
    except EOFError:
        pass
    finally:
        session.stop()
        gateway.shutdown()
        # The JVM ends when nobody can write to it any more.
        gateway.proc.stdin.close()
        gateway.proc.wait()


def _cpu_of(pid: int) -> float:
    """Return the CPU-seconds that a process has used, all its threads together."""
    told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
