"""What a batch costs ingest, everything on, beside the least that any ingest over TLS has to do.

CPU is the server's processes alone (user and system); load comes from a process of its own, and all servers take
turns in the same run. Prints one JSON object:

    events                          how many, times 2 to 8, each server is sent in each round
    rounds                          rounds; each does all, the order alternating; figures are medians
    events_per_cpu_s                NDJSON, 2,000 events a batch: TLS, authentication, digest, parse, segment, fsync
    share_of_decompress_ceiling     the same over what the server reaches that only reads, hashes and decompresses
    share_of_discard_ceiling        the same over what the server reaches that only reads
    arrow_events_per_cpu_s          as events_per_cpu_s, with Arrow bodies, over four times as many connections: these
                                    are a third as long, and over fewer the server would wait for more to come
    arrow_speedup                   that over NDJSON
    small_events_per_cpu_s          NDJSON, 200 events a batch, over ten times as many connections: as many events are
                                    under way as with 2,000 a batch, from ten times as many hosts
    share_at_200                    that over 2,000 events a batch
    half_load_batches_per_s         half of what one server took when it was sent as much as it takes (by the wall)
    ack_p50_ms, ack_p99_ms          from when a batch was due to its answer, at that rate
    idle_p50_ms, idle_p99_ms        the same with one batch at a time
    quiet_p95_ms                    a tenant that sends 200 events ten times a second, alone
    flooded_p95_ms                  the same while another tenant sends as much as is taken, 2,000 events a batch
    flooded_p95_ratio               the latter over the former
    peak_rss_mib                    the largest of ingest's processes, at the end
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# This file has the name of a package of ours, which the folder of a script would hide.
sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.support.ingest_bodies import ARROW, NDJSON, Host
from benchmarks.support.ingest_load import Outcome, drive, drive_for
from kaimon.base.tls import ensure_development_tls
from tenancy.database import open_database
from tenancy.enrollment import create_token, enroll
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

LARGE, SMALL = 2_000, 200
CONNECTIONS = 16
CEILINGS = Path(__file__).parent / "support" / "ingest_ceilings.py"
KAIMON = Path(sys.executable).parent / "kaimon"


class Server:
    """One server on a port of its own; `cpu_s` is what its processes have used."""

    def __init__(self, home: Path, port: int, command: list[str], **settings: str) -> None:
        self.port, self.ca = port, ensure_development_tls(home).ca
        environment = {**os.environ, "KAIMON_HOME": str(home), "KAIMON_PORT": str(port), **settings}
        self._log = (home / f"log-{port}").open("wb")
        self._process = subprocess.Popen(
            command, env=environment, stdout=self._log, stderr=self._log, start_new_session=True
        )
        self._wait()

    def _wait(self) -> None:
        trust, deadline = ssl.create_default_context(cafile=str(self.ca)), time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"https://localhost:{self.port}/readyz", context=trust, timeout=5).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _members(self) -> list[Path]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == self._process.pid:
                found.append(path)
        return found

    def cpu_s(self) -> float:
        """Return user and system seconds of all its processes."""
        ticks = 0
        for path in self._members():
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_rss_mib(self) -> float:
        """Return the most memory that one of its processes ever had."""
        lines = [line for path in self._members() for line in (path / "status").read_text().splitlines()]
        return max(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def stop(self) -> None:
        """Let it finish what it has, and end it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self._log.close()


@dataclass
class Bench:
    """The servers, who sends, and the process that sends for them."""

    home: Path
    generator: ProcessPoolExecutor
    servers: dict[str, Server] = field(default_factory=dict)

    def host(self, tenant: str = "bench") -> Host:
        """Enroll a new host."""
        database = open_database(TenancySettings(home=self.home))
        try:
            _, token = create_token(database, tenant)
            made = enroll(database, token, "bench", {}, "0" * 8 + "-0000-0000-0000-" + "0" * 12, "0.1.0")
        finally:
            database.close()
        return Host(made.agent_id, made.credential)

    def send(self, server: str, requests: list[bytes], connections: int, rate: float | None = None) -> Outcome:
        """Send from the other process; every answer must be 200."""
        to = self.servers[server]
        outcome = self.generator.submit(drive, to.port, to.ca, requests, connections, rate).result()
        if set(outcome.statuses) != {200}:
            raise SystemExit(f"{server}: answers by status: {outcome.statuses}")
        return outcome

    def flooded_p95_s(self, seconds: int) -> tuple[float, float]:
        """Return the 95th percentile of a quiet tenant's latencies, alone and beside one that floods."""
        rate, to = 10.0, self.servers["ingest"]
        quiet, flood = self.host("quiet"), self.host("flood")
        alone = self.send("ingest", quiet.requests(NDJSON, round(rate * seconds), SMALL), 4, rate)
        beside = quiet.requests(NDJSON, round(rate * seconds), SMALL)
        # The quiet one comes from a process of its own: a generator that is busy would be taken for a server that is.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
            other.submit(drive, to.port, to.ca, quiet.requests(NDJSON, 1, SMALL), 1).result()
            bodies = flood.requests(NDJSON, 400 * (seconds + 3), LARGE)
            flooding = self.generator.submit(drive_for, to.port, to.ca, bodies, 4 * CONNECTIONS, seconds + 2.0)
            time.sleep(1)
            outcome = other.submit(drive, to.port, to.ca, beside, 4, rate).result()
            if flooding.result().took_s < seconds + 1:
                raise SystemExit("the flood ended before the quiet tenant had its answers")
        if set(outcome.statuses) != {200}:
            raise SystemExit(f"the quiet tenant's answers by status: {outcome.statuses}")
        return _p95(alone.latencies_s), _p95(outcome.latencies_s)

    def events_per_cpu_s(self, server: str, kind: str, batches: int, size: int, connections: int) -> float:
        """Return what a server takes for each second of its CPU."""
        host = self.host()
        self.send(server, host.requests(kind, connections, size), connections)
        requests = host.requests(kind, batches, size)
        before = self.servers[server].cpu_s()
        self.send(server, requests, connections)
        return batches * size / (self.servers[server].cpu_s() - before)


def measure(bench: Bench, rounds: int, events: int) -> dict[str, Any]:
    """Return the figures."""
    work = {
        "discard": ("discard", NDJSON, LARGE, 8, CONNECTIONS),
        "open": ("open", NDJSON, LARGE, 4, CONNECTIONS),
        # As many batches come over each connection, which costs the server more to open than a small one to take.
        "ndjson": ("ingest", NDJSON, LARGE, 2, CONNECTIONS),
        "arrow": ("ingest", ARROW, LARGE, 8, 4 * CONNECTIONS),
        "small": ("ingest", NDJSON, SMALL, 2, CONNECTIONS * LARGE // SMALL),
    }
    found: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds):
        for name in list(work) if number % 2 == 0 else list(reversed(work)):
            server, kind, size, times, connections = work[name]
            # The cheap ones get more to do: CPU time comes in ticks of 10 ms.
            found[name].append(bench.events_per_cpu_s(server, kind, times * events // size, size, connections))

    def ratio(over: str, under: str) -> float:
        return round(statistics.median(a / b for a, b in zip(found[over], found[under], strict=True)), 3)

    host = bench.host()
    full = bench.send("ingest", host.requests(NDJSON, max(events // LARGE // 2, 50), LARGE), CONNECTIONS)
    half = len(full.latencies_s) / full.took_s / 2
    loaded = bench.send("ingest", host.requests(NDJSON, max(events // LARGE, 100), LARGE), CONNECTIONS, half)
    idle = bench.send("ingest", host.requests(NDJSON, 30, LARGE), 1)
    quiet_s, flooded_s = bench.flooded_p95_s(8 if rounds < 5 else 15)
    return {
        "events": events,
        "rounds": rounds,
        "events_per_cpu_s": round(statistics.median(found["ndjson"])),
        "share_of_decompress_ceiling": ratio("ndjson", "open"),
        "share_of_discard_ceiling": ratio("ndjson", "discard"),
        "arrow_events_per_cpu_s": round(statistics.median(found["arrow"])),
        "arrow_speedup": ratio("arrow", "ndjson"),
        "small_events_per_cpu_s": round(statistics.median(found["small"])),
        "share_at_200": ratio("small", "ndjson"),
        "half_load_batches_per_s": round(half, 1),
        **_percentiles("ack", loaded),
        **_percentiles("idle", idle),
        "quiet_p95_ms": round(quiet_s * 1000, 1),
        "flooded_p95_ms": round(flooded_s * 1000, 1),
        "flooded_p95_ratio": round(flooded_s / quiet_s, 2),
        "peak_rss_mib": round(bench.servers["ingest"].peak_rss_mib()),
    }


def _p95(latencies_s: list[float]) -> float:
    return statistics.quantiles(latencies_s, n=100, method="inclusive")[94]


def _percentiles(name: str, outcome: Outcome) -> dict[str, float]:
    cuts = statistics.quantiles(outcome.latencies_s, n=100, method="inclusive")
    return {f"{name}_p50_ms": round(cuts[49] * 1000, 1), f"{name}_p99_ms": round(cuts[98] * 1000, 1)}


def main() -> None:
    """Run the benchmark and print its object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer events and rounds")
    parser.add_argument("--json", action="store_true", help="on one line")
    parser.add_argument("--port", type=int, default=18_443, help="the first of three ports")
    arguments = parser.parse_args()
    rounds, events = (2, 100_000) if arguments.quick else (5, 400_000)
    with (
        tempfile.TemporaryDirectory(prefix="kaimon-bench-") as folder,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as generator,
    ):
        bench = Bench(Path(folder), generator)
        database = open_database(TenancySettings(home=bench.home))
        for tenant in ("bench", "quiet", "flood"):
            create_tenant(database, tenant, subscription="active")
        database.close()
        commands = {
            "ingest": [str(KAIMON), "ingest", "serve"],
            "open": [sys.executable, str(CEILINGS), "open"],
            "discard": [sys.executable, str(CEILINGS), "discard"],
        }
        try:
            for number, (name, command) in enumerate(commands.items()):
                bench.servers[name] = Server(bench.home, arguments.port + number, command)
            answer = measure(bench, rounds, events)
        finally:
            for server in bench.servers.values():
                server.stop()
    print(json.dumps(answer, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
