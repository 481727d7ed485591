"""A day of many events of 50 hosts through the whole of the pipelines: how long each step takes, in how much memory.

Every step is a process of its own, one at a time, so that the greatest resident memory of any is that of all together;
the segments are staged by another process beforehand. Progress goes to standard error. Prints one JSON object:

    rows, hosts, segments     events that were staged, of how many hosts, in how many segments
    staged_bytes, lake_bytes  what they take in staging and, sealed, in the lake
    steps                     for `land`, `check`, `seal`, `roll` and `replay`: `s` (wall), `cpu_s`, `peak_rss_bytes`
                              (the kernel's own high-water mark of the process)
    peak_rss_bytes            the greatest of them
    passed                    whether the day's checks passed
    checksum, replayed        of the sealed day, and of the day landed again from its segments: the same
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

# Started as a script, Python looks in this folder and not in the one that `benchmarks` is in.
sys.path.insert(1, str(Path(__file__).parents[1]))

from benchmarks.support.sealing import real_paths
from kaimon.base.logs import configure_logs
from lake.schema import EVENT_LINE
from lake.segments import BatchRecord, encode_segment, rows_of, segment_key
from lake.settings import LakeSettings
from lake.stores import open_store
from pipelines.day_checks import check_day
from pipelines.landing import land_tenant
from pipelines.replay import replay_day
from pipelines.resources import Platform
from pipelines.rollups.day import ALL
from pipelines.seal import checksum_of, seal_day
from pipelines.tables import TenantTables
from tenancy.database import open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

TENANT: Final = "bench"
HOSTS: Final = 50
BATCH_ROWS: Final = 5_000
_DAY_US: Final = 86_400_000_000
_LOST: Final = dict.fromkeys(("ring", "scratch", "shed", "refused", "evicted"), 0)


def stage(home: Path, day: date, rows: int) -> None:
    """Stage `rows` events of 50 hosts, spread over a day, as segments of one ingest node: each host's batches whole."""
    store, rng, paths = open_store("staging", LakeSettings(home=home)), np.random.default_rng(7), _paths()
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
    of_host = rows // HOSTS
    batches_a_segment = min(20, -(-of_host // BATCH_ROWS))
    seq, done = 0, [0] * HOSTS
    while any(each < of_host for each in done):
        for host in range(HOSTS):
            parts = []
            for _ in range(batches_a_segment):
                if count := min(BATCH_ROWS, of_host - done[host]):
                    parts.append(_batch(host, done[host], count, of_host, start, rng, paths))
                    done[host] += count
            if parts:
                seq += 1
                store.put_new(segment_key(TENANT, "node", seq), encode_segment("node", seq, TENANT, parts))
        print(f"staged {sum(done):,} of {rows:,}", file=sys.stderr)


def _paths() -> pa.Array[Any]:
    """Return real paths in an order that makes neighbours of none."""
    paths = np.asarray(real_paths(), dtype=object)
    np.random.default_rng(1).shuffle(paths)
    return pa.array(paths.tolist())


def _batch(  # noqa: PLR0917 - what a batch is
    host: int, first: int, count: int, of_host: int, start: int, rng: np.random.Generator, paths: pa.Array[Any]
) -> tuple[BatchRecord, pa.Table, list[Any]]:
    step = (_DAY_US - 10_000_000) // of_host
    times = start + np.arange(first, first + count) * step + rng.integers(0, step + 1, count)
    busy, process = rng.zipf(1.2, count) % len(paths), rng.zipf(1.5, count) % 60
    given: dict[str, Any] = {
        "time": times,
        "monotonic_ns": (times - start) * 1_000,
        "operation": pa.array(["open", "write", "create", "delete", "rename"]).take(rng.zipf(1.6, count) % 5),
        "path": paths.take(pa.array(busy)),
        "path_status": ["resolved"] * count,
        "file_type": ["regular"] * count,
        "count": np.ones(count, np.int64),
        "pid": process * 40 + rng.integers(300, 340, count),
        "process": pa.array([f"proc-{number}" for number in range(60)]).take(process),
        "inode": busy + 100_000,
        "cpu": np.zeros(count, np.int32),
        "seq": np.arange(first, first + count),
    } | dict.fromkeys(("uid", "euid", "gid"), 1000 + process % 3)
    columns = [
        pa.array(given[field.name], field.type) if field.name in given else pa.nulls(count, field.type)
        for field in EVENT_LINE
    ]
    table = rows_of(pa.table(columns, schema=EVENT_LINE), pa.array(np.arange(2, count + 2), pa.int32()))
    cut, number = int(times.max()) + 1_000, first // BATCH_ROWS + 1
    cpu = {"cpu": 0, "seen": first + count, "filtered": 0, "next_seq": first + count, "pending": 0}
    record = BatchRecord(
        agent_id=f"agt_{host:016x}", hostname=f"host-{host}", claimed_hostname=f"host-{host}",
        boot_id=f"00000000-0000-0000-0000-{host:012d}", load_id=f"00000000-0000-0000-0001-{host:012d}",
        batch_seq=number, digest=f"{host:032x}{number:032x}", previous_digest=None, agent_version="0.1.0",
        capture_mode="sys_exit", blind_spots=[], host={"os": None, "kernel": None, "arch": None, "cloud": None},
        counters=[cpu | {"lost_rows": _LOST, "lost_events": _LOST}], final=False, sent_at=cut, received_at=cut + 1_000,
        rows=count, occurrences=count, rejected=0, first_time=int(times.min()), last_time=int(times.max()),
    )  # fmt: skip
    return record, table, []


def _land(tables: TenantTables, _day: date) -> object:
    return land_tenant(tables.db, TENANT, "benchmark", tables.settings).rows


def _check(tables: TenantTables, day: date) -> object:
    return not check_day(Platform(), tables.db, day, "benchmark").failing


def _seal(tables: TenantTables, day: date) -> object:
    seal_day(tables, day)
    return checksum_of(tables, day)


def _roll(tables: TenantTables, day: date) -> object:
    return {name: work(tables, day) for name, work in ALL.items()}


def _replay(tables: TenantTables, day: date) -> object:
    return replay_day(tables, day).checksum


STEPS: Final[dict[str, Callable[[TenantTables, date], object]]] = {
    "land": _land, "check": _check, "seal": _seal, "roll": _roll, "replay": _replay
}  # fmt: skip


def step(name: str, home: Path, day: date, told: Any) -> None:
    """Do one step in this process, and send what came of it and what it cost."""
    configure_logs("benchmark", logging.INFO)
    database = open_database(TenancySettings(home=home))
    try:
        began = time.perf_counter()
        found = STEPS[name](TenantTables(database, TENANT, "benchmark", LakeSettings(home=home)), day)
        took = time.perf_counter() - began
    finally:
        database.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    cost = {"s": round(took, 1), "cpu_s": round(used.ru_utime + used.ru_stime, 1)}
    told.send((found, cost | {"peak_rss_bytes": used.ru_maxrss * 1024}))


def apart(name: str, home: Path, day: date) -> tuple[Any, dict[str, Any]]:
    """Do one step in a new process and return what came of it and what it cost."""
    spawning = multiprocessing.get_context("spawn")
    here, there = spawning.Pipe()
    process = spawning.Process(target=step, args=(name, home, day, there))
    process.start()
    there.close()
    try:
        found, cost = here.recv()
    except EOFError:
        raise SystemExit(f"{name} ended without an answer") from None
    finally:
        process.join()
    print(f"{name}: {cost}", file=sys.stderr)
    return found, cost


def main() -> None:
    """Run the benchmark and print its object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a million events")
    parser.add_argument("--json", action="store_true", help="on one line")
    parser.add_argument("--rows", type=int, default=100_000_000, help="events of the day")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="a new home that is left there, for other benchmarks"
    )
    arguments = parser.parse_args()
    rows = 1_000_000 if arguments.quick else arguments.rows
    day = datetime.now(UTC).date() - timedelta(days=2)
    with ExitStack() as stack:
        home = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kaimon-bench-")))
        home.mkdir(parents=True, exist_ok=arguments.keep is None)
        os.environ["KAIMON_HOME"] = str(home)
        database = open_database(TenancySettings(home=home))
        create_tenant(database, TENANT, subscription="active")
        database.close()
        stage(home, day, rows)
        done = {step: apart(step, home, day) for step in STEPS}
        staged = list((home / "staging").rglob("*.parquet"))
        answer = {
            "rows": rows,
            "hosts": HOSTS,
            "segments": len(staged),
            "staged_bytes": sum(file.stat().st_size for file in staged),
            "lake_bytes": sum(file.stat().st_size for file in (home / "lake").rglob("sealed-*.parquet")),
            "steps": {step: cost for step, (_, cost) in done.items()},
            "peak_rss_bytes": max(cost["peak_rss_bytes"] for _, cost in done.values()),
            "passed": done["check"][0],
            "checksum": done["seal"][0],
            "replayed": done["replay"][0],
        }
        if answer["checksum"] != answer["replayed"] or done["land"][0] != rows:
            raise SystemExit(f"landed {done['land'][0]} of {rows} rows; {answer}")
    print(json.dumps(answer, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
