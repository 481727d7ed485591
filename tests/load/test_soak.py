"""For a long time under a steady load the agent neither grows nor loses count."""

from __future__ import annotations

import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.load]

MOST_MEMORY = 100_000_000


def metrics(path: Path) -> dict[str, float]:
    """What the agent says of itself on its socket, by name and labels."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        raw = b""
        while piece := connection.recv(1 << 16):
            raw += piece
    lines = raw.partition(b"\r\n\r\n")[2].decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#") if name
    }


@pytest.mark.timeout(4000)  # `--full` takes an hour
def test_a_soak_leaves_memory_and_goroutines_flat_and_nothing_unaccounted(
    start: Callable[..., Any],
    server: Any,
    loop: Callable[[int, int], Any],
    pytestconfig: pytest.Config,
    tmp_path: Path,
) -> None:
    at = tmp_path / "metrics"
    agent = start("--metrics-socket", str(at), "--collapse-window", "1s")
    seconds = pytestconfig.getoption("--soak") or (3600 if pytestconfig.getoption("--full") else 30)
    until = time.monotonic() + seconds
    made, told = Counter[str](), Counter[str]()
    samples: list[dict[str, float]] = []
    done: list[Any] = []
    while time.monotonic() < until:
        for files, turns in ((0, 2_000), (50, 4_000)):
            done.append(loop(files, turns))
            done[-1].finish()
        samples.append(metrics(at))
        time.sleep(0.5)
    agent.stop()
    server.check()
    for one in done:
        made.update(one.events)
        told.update(one.told(server.load))
    assert server.load.final
    assert server.load.lost() == dict.fromkeys(server.load.lost(), 0)
    assert server.load.pending() == 0
    assert told == made
    # The beginning warms up; then a middle and an end of a third each are compared.
    third = len(samples) // 3
    middle, end = (
        {
            name: statistics.median(s[name] for s in part)
            for name in part[0]
            if "resident" in name or "goroutines" in name
        }
        for part in (samples[third : 2 * third], samples[-third:])
    )
    print(f"{seconds} s, {sum(made.values()):,} events: {middle} then {end}")
    assert end["kaimon_agent_goroutines"] <= middle["kaimon_agent_goroutines"]
    assert end["kaimon_agent_resident_bytes"] <= middle["kaimon_agent_resident_bytes"] * 1.1
    assert max(s["kaimon_agent_resident_bytes"] for s in samples) < MOST_MEMORY
    assert samples[-1]["kaimon_agent_accounting_violations_total"] == 0
    assert samples[-1]["kaimon_agent_canary_failures_total"] == 0
