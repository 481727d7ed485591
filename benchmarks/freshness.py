"""How long a kernel event takes to be a row that a query finds, in the set-up that `script/server` brings up.

A real server in a home of its own: agent, ingest, Dagster with its daemon and pages; all of this machine is captured.
Files are made at random moments, and the table is asked twice a second. Prints one JSON object:

    probes                     files made; every one of them was found
    minutes                    for how long; a landing run ends after ten and another begins, which is in the figures
                               unless --quick
    p50_s, p95_s, max_s        from the kernel's time of an event to the first look that finds its row
    cut_p50_s, cut_p95_s       of that, until the agent has cut the batch
    send_p50_s, send_p95_s     from there until ingest has received it
    land_p50_s, land_p95_s     from there until its group begins to land: waiting for the run, and for those before it
    show_p50_s, show_p95_s     from there until a look finds it: parse, deduplicate, commit three tables, look
    agent_share, landing_share of the median's sum: the first two, the last two
    over_ack                   p50_s over the median until ingest had received it, the least that any pipeline takes
    rows_landed                rows of this machine that landed meanwhile, probes and all else
    load                       the machine's load average at the end
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

# A file in this folder has the name of a package of ours, which the folder of a script would hide.
sys.path[0] = str(Path(__file__).parents[1])

from kaimon.local.server import TENANT
from kaimon.local.stack import free_port, why_no_capture
from lake.reads import scan
from lake.settings import LakeSettings

LOOK_S = 0.5
PATIENCE_S = 240
READY_S = 300


@contextmanager
def server(home: Path) -> Iterator[Path]:
    """Run `script/server`'s own module in `home` until the `with` ends; give the file of what it says."""
    log = home.with_name("server.log")
    command = [sys.executable, "-m", "kaimon.local.server"]
    command += ["--ingest-port", str(free_port()), "--dagster-port", str(free_port())]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "KAIMON_HOME": str(home)}, start_new_session=True
        )
    try:
        deadline = time.monotonic() + READY_S
        while "Ctrl-C stops all" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not come up:\n{log.read_text()}")
            time.sleep(0.2)
        yield log
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(180)


@dataclass
class Probes:
    """Files that were made, and when a look first found each: path to seconds since the epoch."""

    folder: Path
    lake: LakeSettings
    made: dict[str, float] = field(default_factory=dict)
    found: dict[str, float] = field(default_factory=dict)

    def make(self) -> None:
        """Make a file."""
        path = self.folder / f"probe-{len(self.made)}"
        self.made[str(path)] = time.time()
        path.touch()

    def look(self) -> None:
        """Ask the table once, as a query would."""
        waiting = self.made.keys() - self.found.keys()
        if not waiting:
            return
        oldest = datetime.fromtimestamp(min(self.made[path] for path in waiting), UTC)
        rows = scan(TENANT, "events", oldest.date(), settings=self.lake)
        rows = rows.filter(pl.col("time") >= oldest - timedelta(seconds=5), pl.col("path").is_in(sorted(waiting)))
        paths = rows.select("path").unique().collect()["path"].to_list()
        now = time.time()
        self.found |= dict.fromkeys(paths, now)

    def stages(self) -> pl.DataFrame:
        """Return one row a probe: `total` and its parts `cut`, `send`, `land`, `show`, in seconds."""
        mine = pl.col("path").is_in(sorted(self.made)) & (pl.col("operation") == "create")
        events = scan(TENANT, "events", settings=self.lake).filter(mine)
        key = ["agent_id", "load_id", "batch_seq"]
        batches = scan(TENANT, "batches", settings=self.lake).filter(pl.col("outcome") == "landed")
        rows = events.join(batches.select(*key, "sent_at", "landed_at"), on=key).collect()
        seen = pl.DataFrame({"path": list(self.found), "seen": list(self.found.values())})
        at = {name: pl.col(name).dt.epoch("us") / 1e6 for name in ("time", "sent_at", "received_at", "landed_at")}
        return rows.join(seen, on="path").select(
            total=pl.col("seen") - at["time"],
            cut=at["sent_at"] - at["time"],
            send=at["received_at"] - at["sent_at"],
            land=at["landed_at"] - at["received_at"],
            show=pl.col("seen") - at["landed_at"],
        )


def probe(probes: Probes, minutes: float) -> None:
    """Make files at random moments for so long, and look until every one is found."""
    rng = random.Random(7)
    began = time.monotonic()
    next_one = began
    while time.monotonic() - began < minutes * 60:
        if time.monotonic() >= next_one:
            probes.make()
            next_one = time.monotonic() + rng.uniform(0.5, 4.5)
        probes.look()
        time.sleep(LOOK_S)
    deadline = time.monotonic() + PATIENCE_S
    while len(probes.found) < len(probes.made) and time.monotonic() < deadline:
        probes.look()
        time.sleep(LOOK_S)
    if missing := probes.made.keys() - probes.found.keys():
        raise SystemExit(f"{len(missing)} of {len(probes.made)} files are not in the table after {PATIENCE_S} s")


def figures(stages: pl.DataFrame) -> dict[str, Any]:
    """Return the percentiles of the whole way and of its parts, and the shares."""
    whole = stages["total"]
    found: dict[str, Any] = {
        "p50_s": _percentile(whole, 0.5),
        "p95_s": _percentile(whole, 0.95),
        "max_s": _percentile(whole, 1.0),
    }
    for part in ("cut", "send", "land", "show"):
        found |= {f"{part}_p50_s": _percentile(stages[part], 0.5), f"{part}_p95_s": _percentile(stages[part], 0.95)}
    middle = {part: statistics.median(stages[part].to_list()) for part in ("cut", "send", "land", "show")}
    agent = middle["cut"] + middle["send"]
    return found | {
        "agent_share": round(agent / sum(middle.values()), 3),
        "landing_share": round(1 - agent / sum(middle.values()), 3),
        "over_ack": round(statistics.median(whole.to_list()) / agent, 2),
    }


def _percentile(values: pl.Series, share: float) -> float:
    return round(float(values.quantile(share, "linear") or 0.0), 2)


def main() -> None:
    """Run the benchmark and print its object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes instead of thirteen")
    parser.add_argument("--json", action="store_true", help="on one line")
    arguments = parser.parse_args()
    if (why := why_no_capture()) is not None:
        raise SystemExit(f"this machine cannot capture: {why}")
    minutes = 2.0 if arguments.quick else 13.0
    with tempfile.TemporaryDirectory(prefix="kaimon-bench-") as base, tempfile.TemporaryDirectory() as watched:
        home = Path(base) / "home"
        with server(home):
            probes = Probes(Path(watched).resolve(), LakeSettings(home=home))
            probe(probes, minutes)
            answer = {"probes": len(probes.made), "minutes": minutes, **figures(probes.stages())}
            answer["rows_landed"] = scan(TENANT, "events", settings=probes.lake).select(pl.len()).collect().item()
            answer["load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(answer, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
