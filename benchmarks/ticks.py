"""What Dagster's ticks and pages cost with many tenants and many days: all of them are to take less than a second.

A home of its own with Dagster's real storage on SQLite: 2,000 tenants with 400 days each in the control database (all
checked and sealed but the last two, which are open), every tenant with something staged, and for each of the 400 days a
materialization of each daily asset, as the runs leave them. Prints one JSON object:

    tenants, days, states, materializations   what there is
    ticks                 seconds that each sensor and schedule takes, first and median of five
    pages                 seconds that a webserver takes to answer for what each page asks, first and median of five
    slowest_s             the greatest median
    load                  the machine's load average at the end
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

# A file in this folder has the name of a package of ours, which the folder of a script would hide.
sys.path[0] = str(Path(__file__).parents[1])

from dagster import AssetMaterialization, DagsterInstance, build_schedule_context, build_sensor_context
from sqlalchemy import delete, insert

from kaimon.base.logs import configure_logs
from kaimon.local.processes import Children, wait_for
from kaimon.local.stack import Local, free_port, listens
from pipelines.alerts.sensors import alerts
from pipelines.definitions import defs
from pipelines.partitions import DAYS
from pipelines.resources import Platform
from pipelines.schedules import nightly
from pipelines.sensors import staged
from tenancy.database import Database, open_database
from tenancy.hints import mark_staged
from tenancy.tables import DAY_STATES, STAGED_HINTS, WATERMARKS
from tenancy.tenants import create_tenant

PAGES: Final = {
    "asset graph": "{assetNodes{id assetKey{path} dependencyKeys{path} hasMaterializePermission jobNames "
    "partitionStats{numMaterialized numPartitions numFailed numMaterializing} "
    "assetMaterializations(limit:1){timestamp runId partition}}}",
    "asset, its days": '{assetNodeOrError(assetKey:{path:["day_checks"]}){... on AssetNode{partitionKeys '
    "assetPartitionStatuses{... on TimePartitionStatuses{ranges{startKey endKey status}}} "
    "assetMaterializations(limit:100){timestamp partition metadataEntries{label}}}}}",
    "runs": "{runsOrError(limit:25){... on Runs{results{id status jobName startTime endTime tags{key value} "
    "assetSelection{path}}}}}",
    "automation": "{workspaceOrError{... on Workspace{locationEntries{locationOrLoadError{... on RepositoryLocation{"
    "repositories{sensors{name sensorState{status ticks(limit:1){timestamp status}}} "
    "schedules{name scheduleState{status ticks(limit:1){timestamp status}}}}}}}}}}",
}
"""What the pages ask, cut to what costs something; the pages themselves ask in several parts."""
_ROUNDS: Final = 5


def fill(db: Database, instance: DagsterInstance, tenants: int, days: int) -> dict[str, int]:
    """Make the states and the materializations, and say how many."""
    now = datetime.now(UTC)
    ids = [f"bench-{number:04d}" for number in range(tenants)]
    span = [now.date() - timedelta(days=back) for back in range(days)]
    for tenant in ids:
        create_tenant(db, tenant, subscription="active")
    mark_staged(db, [(tenant, "node", 1) for tenant in ids])
    with db.transaction() as session:
        marks = [{"tenant_id": one, "received_at": now, "landed_at": now, "quarantined": 0} for one in ids]
        session.execute(insert(WATERMARKS), marks)
        for back, day in enumerate(span):
            state = {"state": "open" if back < 2 else "passed", "sealed_version": 0 if back < 2 else 3}
            rest: dict[str, Any] = {"day": day, "detail": {}, "changed_at": now - timedelta(days=1), "version": 3}
            session.execute(insert(DAY_STATES), [{"tenant_id": one, **rest, **state} for one in ids])
    graph = defs.resolve_asset_graph()
    daily = [key for key in graph.get_all_asset_keys() if graph.get(key).partitions_def == DAYS]
    for key in daily:
        for day in span:
            metadata = {"tenants": tenants, "rows": 1_000_000}
            event = AssetMaterialization(key, partition=day.isoformat(), metadata=metadata)
            instance.report_runless_asset_event(event)
    return {"states": tenants * days, "materializations": len(daily) * days}


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Return what doing it takes, in seconds: the first time, and the median of five."""
    took = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return {"first_s": round(took[0], 3), "median_s": round(statistics.median(took), 3)}


def ticks(instance: DagsterInstance) -> dict[str, dict[str, float]]:
    """Time the tick of each sensor and schedule that looks at tenants."""
    resources = {"platform": Platform()}
    at = datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0)
    work: dict[str, Callable[[], object]] = {
        "staged": lambda: staged(build_sensor_context(instance=instance, resources=resources)),
        "alerts": lambda: alerts(build_sensor_context(instance=instance, resources=resources)),
        "nightly": lambda: nightly(build_schedule_context(scheduled_execution_time=at, resources=resources)),
    }
    return {name: timed(tick) for name, tick in work.items()}


def pages(local: Local) -> dict[str, dict[str, float]]:
    """Start Dagster's pages and daemon as `script/server` does, and time what the pages ask."""
    port = free_port()

    def ask(query: str) -> None:
        body = json.dumps({"query": query}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            told = json.load(answer)
        if "errors" in told:
            raise SystemExit(f"the page was refused: {told['errors']}")

    with Children(local.home / "logs") as children:
        local.start_pipelines(children, port)
        wait_for("Dagster's pages", lambda: listens(port), 120, children)
        return {name: timed(lambda query=query: ask(query)) for name, query in PAGES.items()}  # type: ignore[misc]


def main() -> None:
    """Run the benchmark and print its object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 tenants, 40 days")
    parser.add_argument("--json", action="store_true", help="on one line")
    arguments = parser.parse_args()
    configure_logs("benchmark", logging.ERROR)
    tenants, days = (200, 40) if arguments.quick else (2_000, 400)
    answer: dict[str, Any] = {"tenants": tenants, "days": days}
    with tempfile.TemporaryDirectory(prefix="kaimon-bench-") as name:
        local = Local(Path(name) / "home", free_port())
        local.prepare()
        os.environ |= local.environment
        db = open_database()
        with DagsterInstance.get() as instance:
            answer |= fill(db, instance, tenants, days)
            print("filled", file=sys.stderr)
            answer["ticks"] = ticks(instance)
        # No run is to begin while the pages are timed.
        with db.transaction() as session:
            session.execute(delete(STAGED_HINTS))
        db.close()
        answer["pages"] = pages(local)
    answer["slowest_s"] = max(one["median_s"] for part in ("ticks", "pages") for one in answer[part].values())
    answer["load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(answer, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
