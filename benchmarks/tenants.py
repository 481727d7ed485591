"""How long one draining run takes over many tenants that have little each: what a tenant costs, not what a row costs.

Every tenant has one segment of two batches of 50 rows, as a quiet customer's hosts send. Prints one JSON object:

    tenants, rows            tenants that were landed, in one draining run, and their events in all
    first, again             of the first landing (which makes the tables) and of one with the tables there:
                             `s` (wall), `cpu_s` (this process and those it started), `cpu_ms_a_tenant`
    threads                  the same again, by threads of one process instead of a process for each tenant at once: the
                             baseline; 500 tenants at most
    processes_over_threads   tenants a second of `again` over that
    load                     the machine's load average at the end of `again`; 2 is this benchmark's own on two cores
    bare_cpu_ms_a_tenant     the least that landing does, by delta-rs alone, with the tables there: a table of the same
                             rows, four tables opened and committed to, as durable; a fifth of the tenants, same run
    landing_over_bare        the CPU time of `again` over that
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

# Started as a script, Python looks in this folder and not in the one that `benchmarks` is in.
sys.path.insert(1, str(Path(__file__).parents[1]))

from benchmarks.pipeline import batch_record, event_rows
from kaimon.base.logs import configure_logs
from lake.schema import TABLES
from lake.segments import FIRST_SEQUENCE, encode_segment, segment_key
from lake.settings import LakeSettings
from lake.stores import open_store
from pipelines.drain import drain
from pipelines.settings import PipelineSettings
from tenancy.database import Database, open_database
from tenancy.hints import mark_staged
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

BATCHES: Final = 2
BATCH_ROWS: Final = 50
NODE: Final = "node"
CROWD: Final = 500
"""From how many tenants on a process for each that lands at once, as by default; fewer than that have them too."""
BARE_TABLES: Final = ("events", "quarantine", "batches", "hosts")


def stage(lake: LakeSettings, database: Database, tenants: Sequence[str], round_: int) -> list[pa.Table]:
    """Stage each tenant's segment of a round, as ingest would, with its hint; return the rows that each has."""
    store, now, rng = open_store("staging", lake), time.time_ns() // 1000, np.random.default_rng(round_)
    number = (round_ * BATCHES) + 1
    tables = [event_rows((number + i - 1) * BATCH_ROWS, now, rng, BATCH_ROWS) for i in range(BATCHES)]
    parts: list[Any] = [
        (batch_record(number + i, (number + i - 1) * BATCH_ROWS, table, now), table, [])
        for i, table in enumerate(tables)
    ]
    seq = FIRST_SEQUENCE + round_
    for tenant in tenants:
        store.put_new(segment_key(tenant, NODE, seq), encode_segment(NODE, seq, tenant, parts))
        mark_staged(database, [(tenant, NODE, seq)])
    return tables


def cost(work: Callable[[], object], tenants: int) -> dict[str, float]:
    """Return what `work` takes: seconds by the clock and of all CPUs, of this process and of those that it ran."""
    began, before = time.perf_counter(), _cpu_s()
    work()
    took, cpu = time.perf_counter() - began, _cpu_s() - before
    return {"s": round(took, 2), "cpu_s": round(cpu, 2), "cpu_ms_a_tenant": round(cpu / tenants * 1000, 1)}


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def land(lake: LakeSettings, database: Database, tenants: Sequence[str], rounds: int, crowd: int) -> None:
    """Drain once and make sure that every tenant has its rows."""
    settings = PipelineSettings(home=lake.home, landing_idle_s=0, landing_poll_s=0.01, landing_crowd=crowd)
    done = drain(database, "benchmark", lake, settings)
    rows = sum(counts["rows"] for counts in done.done.values())
    if done.failed or rows != len(tenants) * BATCHES * BATCH_ROWS:
        raise SystemExit(f"round {rounds} landed {rows} rows of {len(tenants)} tenants, {len(done.failed)} failed")


def bare(folder: Path, tenants: Sequence[str], rows: pa.Table, round_: int) -> None:
    """Commit `rows` to four tables of each tenant by delta-rs alone, and make what it wrote durable."""
    for tenant in tenants:
        for name in BARE_TABLES:
            place = folder / tenant / name
            marks = CommitProperties(app_transactions=[Transaction(NODE, round_ + 1)])
            if round_ == 0:
                place.mkdir(parents=True)
                DeltaTable.create(str(place), schema=rows.schema)
            table = DeltaTable(str(place))
            table.transaction_version(NODE)
            write_deltalake(table, rows, mode="append", commit_properties=marks)
            newest = max((place / "_delta_log").iterdir())
            for path in (newest, *place.glob("*.parquet")):
                if path.stat().st_mtime >= newest.stat().st_mtime - 1:
                    with path.open("rb") as file:
                        os.fsync(file.fileno())


def main() -> None:
    """Run the benchmark and print its object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 tenants")
    parser.add_argument("--tenants", type=int, help="how many; 2,000 by default")
    parser.add_argument("--json", action="store_true", help="on one line")
    arguments = parser.parse_args()
    configure_logs("benchmark", logging.WARNING)
    count = arguments.tenants or (60 if arguments.quick else 2_000)
    tenants = [f"bench-{number:04d}" for number in range(count)]
    answer: dict[str, Any] = {"tenants": count, "rows": count * BATCHES * BATCH_ROWS}
    with tempfile.TemporaryDirectory(prefix="kaimon-bench-") as name:
        folder = Path(name)
        lake, database = LakeSettings(home=folder), open_database(TenancySettings(home=folder))
        try:
            for tenant in tenants:
                create_tenant(database, tenant, subscription="active")
            for round_, key in enumerate(("first", "again")):
                tables = stage(lake, database, tenants, round_)
                print(f"staged for {count} tenants: {key}", file=sys.stderr)
                answer[key] = cost(partial(land, lake, database, tenants, round_, min(count, CROWD)), count)
            answer["load"] = round(os.getloadavg()[0], 1)
            some = tenants[:500]
            stage(lake, database, some, 2)
            answer["threads"] = cost(partial(land, lake, database, some, 2, count + 1), len(some))
            few = tenants[: max(10, count // 5)]
            rows = pa.concat_tables(tables).select(TABLES["events"].schema.names[:20])
            bare(folder / "bare", few, rows, 0)
            least = cost(partial(bare, folder / "bare", few, rows, 1), len(few))["cpu_ms_a_tenant"]
        finally:
            database.close()
    answer["bare_cpu_ms_a_tenant"] = least
    answer["processes_over_threads"] = round((count / answer["again"]["s"]) / (len(some) / answer["threads"]["s"]), 2)
    answer["landing_over_bare"] = round(answer["again"]["cpu_ms_a_tenant"] / least, 2)
    print(json.dumps(answer, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
