"""Ingest goes away, or the agent is killed, under load: what is missing is counted, and the rest is exact."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.load]

MOST_MEMORY = 100_000_000


def test_an_outage_under_load_is_told_or_counted_within_100_mb(
    start: Callable[..., Any],
    server: Any,
    loop: Callable[[int, int], Any],
    watch: Callable[..., Any],
    full: bool,
) -> None:
    agent = start("--heartbeat", "30s", "--cut-interval", "2s")
    watching = watch(agent)
    loads = [loop(0, 1_000)]
    loads[0].finish()
    server.wait(lambda _: bool(server.loads) and loads[0].told(server.load) == loads[0].events)
    server.stop()
    until = time.monotonic() + (60 if full else 15)
    while time.monotonic() < until:
        loads.append(loop(0, 20_000))
        loads[-1].finish()
    at_the_end_of_it = server.load.batches
    server.start()
    agent.stop()
    server.check()
    rss = watching.stop()
    assert server.load.final
    assert server.load.batches > at_the_end_of_it
    made, told = Counter[str](), Counter[str]()
    for load in loads:
        made.update(load.events)
        told.update(load.told(server.load))
    lost = server.load.lost()
    assert all(told[operation] <= made[operation] for operation in made)
    assert 0 <= made.total() - told.total() <= sum(lost.values())
    assert {cause for cause, number in lost.items() if number} <= {"shed", "ring"}
    if sum(lost.values()) == 0:
        assert told == made
    assert max(size for _, size in rss) < MOST_MEMORY


def test_a_kill_under_load_leaves_an_unknown_tail_and_the_next_load_exact(
    start: Callable[..., Any], server: Any, loop: Callable[[int, int], Any], full: bool
) -> None:
    for kill in range(20 if full else 3):
        agent = start(enroll=kill == 0)
        load = loop(0, 10_000_000)
        load.begin()
        server.wait(lambda _, load=load, kill=kill: len(server.loads) > kill and load.told(server.load)["create"] > 0)
        agent.process.kill()
        agent.process.wait(10)
        load.kill()
        server.check()  # at every batch that arrived both equations hold, as far as it goes
        assert not server.load.final

    agent = start(enroll=False)
    load = loop(0, 10_000)
    load.finish()
    agent.stop()
    server.check()
    assert load.told(server.load) == load.events
    assert server.load.final
    assert sum(server.load.lost("lost_rows").values()) == 0
    assert len({load.load_id for load in server.loads}) == len(server.loads) == (21 if full else 4)
    assert len(server.enrolled) == 1
