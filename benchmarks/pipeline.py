"""How fast landing is, beside the least that any landing has to do and beside Spark; what sealing costs and gives.

Prints one JSON object, of which `--only` takes one part (landing, sealing, spark):

    rows                            events landed in each round
    rounds                          rounds; each does both, the order alternating; figures are medians
    landing_rows_per_s              staged segments to committed tables, everything on: lease, ledger, deduplication
    sink_parquet_rows_per_s         the same rows through Polars' own sink_parquet, one file, zstd 3: the ceiling
    landing_share_of_sink_parquet   the first over the second
    seal_days, seal_rows            days that were sealed, and their events in all: real paths of this machine
    seal_rows_per_cpu_s             rows sealed a CPU-second, median over the days: read, sorted, summed, encoded, put
    bytes_per_event                 of sealed files; _plain: as the rows come, Polars' Parquet, zstd 3; _duckdb: one
                                    day as DuckDB's Parquet, sorted by (path, time), zstd; _chdb: ClickHouse, ORDER BY
                                    (path, time), ZSTD(3), only where `chdb` is installed
    path_lookup_ms                  all events of a path in all those days, warm, median over 15 paths; _plain: in the
                                    plain files; _chdb: in ClickHouse
    path_lookup_speedup             plain over sealed; opening 30 days costs what it costs, so that small
                                    days (--quick) are found sooner in plain files
    path_lookup_vs_chdb             sealed over ClickHouse, where `chdb` is installed
    spark_rows, spark_rounds        events and rounds of landing beside Spark; this and what follows only where Spark,
                                    Delta's jars and Java are (script/bootstrap bench)
    landing_beside_spark_rows_per_s landing, as above, in those rounds
    spark_rows_per_s                Spark, local[2], the same rows appended to a Delta table by day, zstd. It is given
                                    them as plain Parquet of a million rows a file, with all columns of our table;
                                    writing those and a first small write, for the JVM and its code, are not timed.
                                    That is in Spark's favour: landing also deduplicates, keeps the ledger and
                                    commits four tables. In ours it is that a segment leaves out columns that are the
                                    same in all rows
    speedup_over_spark              seconds of Spark over those of landing, median of the rounds; _cpu: CPU-seconds
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

# Started as a script, Python looks in this folder and not in the one that `benchmarks` is in.
sys.path.insert(1, str(Path(__file__).parents[1]))

from benchmarks.support import sealing, spark
from kaimon.base.logs import configure_logs
from lake.schema import EVENT_LINE, OPERATIONS
from lake.segments import FIRST_SEQUENCE, BatchRecord, encode_segment, read_segment, rows_of, segment_key
from lake.settings import LakeSettings
from lake.stores import open_store
from pipelines.landing.land import land_tenant
from tenancy.database import open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

BATCH_ROWS, BATCHES_A_SEGMENT = 5_000, 20
LOST = dict.fromkeys(("ring", "scratch", "shed", "refused", "evicted"), 0)


def event_rows(first: int, now: int, rng: np.random.Generator, count: int = BATCH_ROWS) -> pa.Table:
    """Return one batch's rows: paths like a busy host's, some thousands of files of a few hundred folders."""
    folder, name = rng.zipf(1.3, count) % 400, rng.integers(0, 40, count)
    given: dict[str, Any] = {
        "time": np.arange(now, now + count) - count,
        "monotonic_ns": np.arange(first, first + count) * 1000,
        "operation": np.asarray(OPERATIONS[:5])[rng.integers(0, 5, count)],
        "path": [f"/srv/app/releases/{a:03d}/lib/module_{b:02d}.so" for a, b in zip(folder, name, strict=True)],
        "path_status": ["resolved"] * count,
        "file_type": ["regular"] * count,
        "count": np.ones(count, np.int64),
        "pid": rng.integers(300, 900, count),
        "process": np.asarray(["nginx", "postgres", "python3"])[rng.integers(0, 3, count)],
        "cpu": np.zeros(count, np.int32),
        "seq": np.arange(first, first + count),
    } | {name: np.zeros(count, np.int64) for name in ("uid", "euid", "gid")}
    columns = [
        pa.array(given[field.name], field.type) if field.name in given else pa.nulls(count, field.type)
        for field in EVENT_LINE
    ]
    return rows_of(pa.table(columns, schema=EVENT_LINE), pa.array(np.arange(2, count + 2), pa.int32()))


def batch_record(batch: int, first: int, table: pa.Table, now: int) -> BatchRecord:
    """Return the header of one host's batch, whose rows are numbered from `first` on."""
    count = table.num_rows
    cpu = {"cpu": 0, "seen": first + count, "filtered": 0, "next_seq": first + count, "pending": 0}
    return BatchRecord(
        agent_id="agt_0123456789abcdef", hostname="bench", claimed_hostname="bench",
        boot_id="00000000-0000-0000-0000-000000000000", load_id="00000000-0000-0000-0000-000000000001",
        batch_seq=batch, digest=f"{batch:064x}", previous_digest=None, agent_version="0.1.0",
        capture_mode="sys_exit", blind_spots=[], host={"os": None, "kernel": None, "arch": None, "cloud": None},
        counters=[cpu | {"lost_rows": LOST, "lost_events": LOST}], final=False, sent_at=now, received_at=now,
        rows=count, occurrences=count, rejected=0, first_time=now - count, last_time=now,
    )  # fmt: skip


def stage(settings: LakeSettings, tenant: str, rows: int) -> None:
    """Stage `rows` events of one host as segments of one node."""
    rng, store, now = np.random.default_rng(7), open_store("staging", settings), time.time_ns() // 1000
    done, batch, seq = 0, 0, FIRST_SEQUENCE
    while done < rows:
        parts: list[tuple[BatchRecord, pa.Table, list[Any]]] = []
        for _ in range(BATCHES_A_SEGMENT):
            batch += 1
            table = event_rows(done, now, rng)
            parts.append((batch_record(batch, done, table, now), table, []))
            done += table.num_rows
        store.put_new(segment_key(tenant, "bench", seq), encode_segment("bench", seq, tenant, parts))
        seq += 1


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def one_round(folder: Path, rows: int, *, landing_first: bool) -> tuple[float, float]:
    """Return the seconds of landing and of sink_parquet for the same `rows` events."""
    lake, control = LakeSettings(home=folder), TenancySettings(home=folder)
    database = open_database(control)
    try:
        create_tenant(database, "bench", subscription="active")
        stage(lake, "bench", rows)
        staged = sorted((folder / "staging" / "bench").rglob("*.parquet"))
        # All columns, as landing writes them: a segment leaves out what is the same in every row.
        frame = pl.concat([read_segment(path.read_bytes()).events for path in staged]).drop("batch", "line")
        work = {
            "landing": lambda: land_tenant(database, "bench", "benchmark", lake),
            "sink": lambda: frame.lazy().sink_parquet(
                folder / "plain.parquet", compression="zstd", compression_level=3
            ),
        }
        order = ("landing", "sink") if landing_first else ("sink", "landing")
        took = {name: timed(work[name]) for name in order}
        landed = pl.scan_delta(str(folder / "lake" / "bench" / "events")).select(pl.len()).collect().item()
        if landed != frame.height:
            raise SystemExit(f"landed {landed} of {frame.height} rows")
        return took["landing"], took["sink"]
    finally:
        database.close()


def measure_landing(rows: int, rounds: int) -> dict[str, Any]:
    """Return the figures of landing and its ceiling."""
    times = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="kaimon-bench-") as folder:
            times.append(one_round(Path(folder), rows, landing_first=number % 2 == 0))
    landing, sink = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "rows": rows,
        "rounds": rounds,
        "landing_rows_per_s": round(rows / landing),
        "sink_parquet_rows_per_s": round(rows / sink),
        "landing_share_of_sink_parquet": round(statistics.median(sink / landing for landing, sink in times), 3),
    }


def main() -> None:
    """Run the benchmark and print its object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    parser.add_argument("--json", action="store_true", help="on one line")
    parser.add_argument("--day-rows", type=int, help="events of each of the 30 sealed days: 3,334,000 make 100M")
    parser.add_argument("--only", choices=("landing", "sealing", "spark"), help="this part, and not the others")
    arguments = parser.parse_args()
    configure_logs("benchmark", logging.WARNING)
    answer: dict[str, Any] = {}
    if arguments.only in (None, "landing"):
        answer |= measure_landing(*((200_000, 2) if arguments.quick else (2_000_000, 5)))
    if arguments.only in (None, "sealing"):
        answer |= sealing.measure(30, arguments.day_rows or (10_000 if arguments.quick else 200_000))
    if arguments.only in (None, "spark"):
        answer |= spark.measure(1_000_000 if arguments.quick else 10_000_000, 2, stage)
    if "path_lookup_chdb_ms" in answer:
        answer["path_lookup_vs_chdb"] = round(answer["path_lookup_ms"] / answer["path_lookup_chdb_ms"], 2)
    print(json.dumps(answer, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
