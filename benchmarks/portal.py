"""How long the portal's pages take to their first byte, each asked for by somebody who is logged in, one at a time.

The portal is a process of its own, as in production; its data are 30 sealed days of ten hosts with their hourly sums,
and the ledger of the newest two, a batch every 30 s of each host. Prints one JSON object:

    rows, days, lake_bytes   events, over how many days, and what their files take
    pages                    for each page: `p50_ms` and `p95_ms` to the first byte, `cpu_ms` of the portal and the
                             queries that it started, a request, and `bytes` of the answer
    load                     the machine's load average at the end: on a busy machine trust `cpu_ms`
    over                     pages whose p95 is above the aim: 1,000 ms for Activity over 30 days, 200 ms for others.
                             Files and pages that open events of many days by a name are measured and have no aim

`--home FOLDER --tenant NAME` measures what is there, such as what `benchmarks/day.py --keep FOLDER` leaves.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import ssl
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx
import numpy as np
import polars as pl

# Started as a script, Python looks in this folder and not in the one that `benchmarks` is in.
sys.path.insert(1, str(Path(__file__).parents[1]))

from benchmarks.support.sealing import day_rows, real_paths
from dashboards.portal.question import cursor
from kaimon.base.logs import configure_logs
from kaimon.local.portal import start_portal
from kaimon.local.processes import Children
from kaimon.local.stack import Local, free_port
from lake.commits import Writer
from lake.frames import frame_schema, to_rows
from lake.ordering import ORDER
from lake.reads import scan
from lake.sealed import SealedFiles
from lake.settings import LakeSettings
from tenancy.database import open_database
from tenancy.members import invite
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

TENANT: Final = "bench"
DAYS: Final = 30
HOSTS: Final = 10
AIM_MS: Final = 200
AIM_MONTH_MS: Final = 1_000
WHO: Final = "bench@kaimon.example"


def fill(home: Path, rows: int, last: date) -> None:
    """Write `rows` events over `DAYS` days up to `last`, sealed, and what is computed of them."""
    lake, rng, paths = LakeSettings(home=home), np.random.default_rng(7), real_paths()
    for back in range(DAYS):
        day = last - timedelta(days=back)
        frame = day_rows(day, rows // DAYS, paths, rng)
        target = SealedFiles(TENANT, "events", day, f"s{day:%Y%m%d}", lake)
        target.add(to_rows(frame.sort(ORDER), "events"))
        writer = Writer(TENANT, 1, lake)
        writer.append_files("events", target.close())
        sums = frame.group_by(pl.col("time").dt.truncate("1h").alias("hour"), "agent_id", "hostname", "operation").agg(
            pl.col("count").sum().alias("events"), pl.len().alias("rows")
        )
        writer.append("activity", _whole(sums, "activity", day))
        known = sums.group_by("hour", "agent_id", "hostname").agg(pl.col("events").sum().alias("captured"))
        writer.append("completeness", _whole(known.with_columns(state=pl.lit("complete")), "completeness", day))
    now = datetime.now(UTC)
    for day in (last - timedelta(days=1), last):
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        told = [
            {"agent_id": f"agt_{host:016x}", "hostname": f"host-{host}", "outcome": "landed", "batch_seq": number,
             "sent_at": start + timedelta(seconds=30 * number), "received_at": start + timedelta(seconds=30 * number),
             "landed_at": start + timedelta(seconds=30 * number + 9), "rows": 1}
            for host in range(HOSTS) for number in range(2_880) if start + timedelta(seconds=30 * number) < now
        ]  # fmt: skip
        Writer(TENANT, 1, lake).append("batches", _whole(pl.DataFrame(told), "batches", day))


def _whole(frame: pl.DataFrame, table: str, day: date) -> pl.DataFrame:
    values = {
        pl.String: "x",
        pl.Date: day,
        pl.Datetime("us", "UTC"): datetime(day.year, day.month, day.day, tzinfo=UTC),
    }
    return frame.select(
        pl.col(name).cast(kind)
        if name in frame.columns
        else pl.lit([] if kind.is_nested() else values.get(kind, 0)).cast(kind).alias(name)
        for name, kind in frame_schema(table).items()
    )


def asked(home: Path, tenant: str) -> dict[str, str]:
    """Return the pages that are asked for, by name: addresses below the tenant's."""
    events = scan(tenant, "events", settings=LakeSettings(home=home))
    day = events.select(pl.col("event_day").max()).collect().item()
    row = events.filter(pl.col("event_day") == day).head(1).collect().row(0, named=True)
    newest, month = {"day": day.isoformat()}, {"from": (day - timedelta(days=DAYS - 1)).isoformat()}

    def at(page: str, **more: str) -> str:
        return f"{page}?{urlencode(newest | more)}"

    folder = row["path"].rpartition("/")[0]
    return {
        "overview": at(""),
        "activity, a day": at("activity"),
        "activity, 30 days": at("activity", **month),
        "activity, 30 days, host": at("activity", hostname=row["hostname"], **month),
        "activity, 30 days, path": at("activity", path=folder, **month),
        "activity, 30 days, process": at("activity", process=row["process"], **month),
        "activity, an hour": at("activity", since="12:00", until="13:00"),
        "event": f"activity/event?{urlencode({'id': cursor(row)})}",
        "csv, 30 days": at("activity.csv", **month),
        "parquet, 30 days": at("activity.parquet", **month),
    } | {page: at(page) for page in ("findings", "reports", "quality", "hosts", "tokens", "team", "keys", "audit")}


def log_in(client: httpx.Client, url: str) -> None:
    """Log in at the development provider."""
    form = client.get(urljoin(url, "/login"), follow_redirects=True)
    told = dict(parse_qsl(urlsplit(str(form.url)).query)) | {"email": WHO}
    client.post(urljoin(str(form.url), "/authorize"), data=told, follow_redirects=True).raise_for_status()


def cpu_s(group: int) -> float:
    """Return the CPU time of a session's processes and of those they have waited for, in seconds."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == group:
            ticks += sum(int(word) for word in words[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(client: httpx.Client, address: str, group: int, times: int) -> dict[str, float]:
    """Ask for a page, once to warm up and then `times` times."""
    took, size = [], 0
    for number in range(times + 1):
        if number == 1:
            before = cpu_s(group)
        began = time.perf_counter()
        with client.stream("GET", address) as answer:
            first = time.perf_counter() - began
            size = len(answer.read())
        if answer.status_code != 422:  # of a file that would be too large, which is what is timed then
            answer.raise_for_status()
        if number:
            took.append(first * 1000)
    took.sort()
    return {
        "p50_ms": round(statistics.median(took), 1),
        "p95_ms": round(took[math.ceil(0.95 * len(took)) - 1], 1),
        "cpu_ms": round((cpu_s(group) - before) * 1000 / times, 1),
        "bytes": size,
    }


def main() -> None:
    """Run the benchmark and print its object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="300,000 events, each page 5 times")
    parser.add_argument("--json", action="store_true", help="on one line")
    parser.add_argument("--rows", type=int, default=5_000_000, help="events, over 30 days")
    parser.add_argument("--times", type=int, default=20, help="how often each page is asked for")
    parser.add_argument("--home", type=Path, help="measure what is there, and make nothing but a member")
    parser.add_argument("--tenant", default=TENANT, help="whose pages")
    arguments = parser.parse_args()
    times = 5 if arguments.quick else arguments.times
    configure_logs("benchmark", logging.WARNING)
    with ExitStack() as stack:
        home = arguments.home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kaimon-bench-")))
        os.environ["KAIMON_HOME"] = str(home)
        db = open_database(TenancySettings(home=home))
        stack.callback(db.close)
        if arguments.home is None:
            create_tenant(db, TENANT, subscription="active")
            fill(home, 300_000 if arguments.quick else arguments.rows, datetime.now(UTC).date())
        invite(db, arguments.tenant, WHO, "admin")
        local = Local(home, free_port())
        trust = ssl.create_default_context(cafile=str(local.prepare()))
        children = stack.enter_context(Children(home / "logs"))
        url = start_portal(local, children, free_port(), free_port())
        group = children.started("portal").process.pid
        client = stack.enter_context(httpx.Client(verify=trust, trust_env=False, timeout=120))
        log_in(client, url)
        pages: dict[str, dict[str, float]] = {}
        for name, address in asked(home, arguments.tenant).items():
            pages[name] = measure(client, f"{url}/t/{arguments.tenant}/{address}", group, times)
            print(f"{name}: {pages[name]}", file=sys.stderr)
        events = scan(arguments.tenant, "events", settings=LakeSettings(home=home))
        answer: dict[str, Any] = {
            "rows": events.select(pl.len()).collect().item(),
            "days": events.select(pl.col("event_day").n_unique()).collect().item(),
            "lake_bytes": sum(file.stat().st_size for file in (home / "lake").rglob("events/**/*.parquet")),
            "pages": pages,
            "load": os.getloadavg()[0],
        }
        aims = {name: AIM_MS for name in pages if "30 days" not in name} | {"activity, 30 days": AIM_MONTH_MS}
        answer["over"] = [name for name, aim in aims.items() if pages[name]["p95_ms"] > aim]
    print(json.dumps(answer, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
