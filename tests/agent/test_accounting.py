"""The books: under flood, stall, outage and kill, what is missing is counted, exactly."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

# Writes COUNT times for each line it is given, and says when it has.
FLOOD = """if 1:
    import os, sys
    fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
    write = os.write
    for line in sys.stdin:
        for _ in range(int(line)):
            write(fd, b"x")
        print("done", flush=True)
    """


class Flood:
    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.child = subprocess.Popen(
            [sys.executable, "-c", FLOOD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.written = 0

    def write(self, count: int) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(f"{count}\n")
        self.child.stdin.flush()
        assert self.child.stdout.readline() == "done\n"
        self.written += count

    def told(self, sink: Any) -> int:
        return sum(row["operation"] == "write" and row["path"] == self.path for row in sink.rows())

    def close(self) -> None:
        for stream in (self.child.stdin, self.child.stdout):
            assert stream is not None
            stream.close()
        assert self.child.wait(30) == 0


@pytest.fixture
def flood(tmp_path: Path) -> Any:
    made = Flood(tmp_path / "flooded")
    yield made
    made.close()


def test_a_flood_is_told_or_counted(start: Callable[..., Any], sink: Any, flood: Flood) -> None:
    agent = start()
    flood.write(300_000)
    agent.stop()
    sink.check()
    missing = flood.written - flood.told(sink)
    assert sink.lost()["shed"] == sink.lost()["refused"] == sink.lost()["scratch"] == 0
    assert missing <= sink.lost()["ring"]
    assert sum(c["next_seq"] for c in sink.batches[-1].header["cpus"]) >= flood.written


def others(rows: list[dict[str, Any]], flood: Flood, not_by: set[int]) -> Counter[tuple[int, str, str]]:
    """What everybody else did between the first and the last write of the flood."""
    times = [row["monotonic_ns"] for row in rows if row["pid"] == flood.child.pid and row["path"] == flood.path]
    first, last = min(times), max(times)
    return Counter(
        (row["pid"], row["operation"], row["path"])
        for row in rows
        if first < row["monotonic_ns"] < last and row["pid"] not in not_by
    )


def test_what_a_stalled_reader_loses_is_what_it_says(
    start: Callable[..., Any], sink: Any, other_sink: Any, tmp_path: Path, flood: Flood
) -> None:
    """A second agent that is not stalled bears witness of what everybody else did meanwhile."""
    agent = start()
    witness = start(at=other_sink)
    flood.write(1)
    other_sink.wait(lambda s: flood.told(s) == 1)
    sink.wait(lambda s: flood.told(s) == 1)
    agent.process.send_signal(signal.SIGSTOP)
    for _ in range(10):
        flood.write(10_000)
        other_sink.wait(lambda s: flood.told(s) == flood.written)
    agent.process.send_signal(signal.SIGCONT)
    before = len(sink.batches)
    sink.wait(lambda s: len(s.batches) > before + 1)
    flood.write(1)
    other_sink.wait(lambda s: flood.told(s) == flood.written)
    witness.stop()
    agent.stop()
    sink.check()
    other_sink.check()
    assert sum(other_sink.lost().values()) == 0, "the witness itself lost rows"

    lost = sink.lost()
    assert {cause for cause, number in lost.items() if number} == {"ring"}
    assert lost == sink.lost("lost_events")
    missing = flood.written - flood.told(sink)
    assert missing > 10_000
    # Between the first and the last write both agents watched; the agents themselves are seen by one of them only.
    agents = {flood.child.pid, agent.process.pid, witness.process.pid}
    mine, theirs = (others(s.rows(), flood, agents) for s in (sink, other_sink))
    assert not mine - theirs
    assert lost["ring"] == missing + (theirs - mine).total()


def test_ingest_goes_away_and_comes_back_and_nothing_is_lost(
    start: Callable[..., Any], sink: Any, flood: Flood
) -> None:
    agent = start()
    flood.write(10)
    sink.wait(lambda s: flood.told(s) == 10)
    sink.stop()
    for _ in range(20):
        flood.write(1_000)
    sink.start()
    flood.write(10)
    sink.wait(lambda s: flood.told(s) == flood.written, 60)
    agent.stop()
    sink.check()
    assert sum(sink.lost().values()) == 0


@pytest.mark.parametrize("starved", [False, True], ids=["", "starved"])
def test_an_outage_longer_than_the_buffer_sheds_opens_first_and_counts_them(
    start: Callable[..., Any], sink: Any, tmp_path: Path, starved: bool
) -> None:
    agent = start("--buffer-bytes", str(2 << 20))
    sink.stop()
    if starved:  # all of it is then read in one go
        agent.process.send_signal(signal.SIGSTOP)
    code = """if 1:
        import os, sys
        names = [sys.argv[1] + "/" + os.urandom(110).hex() for _ in range(2_000)]
        for name in names:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
        for _ in range(15):
            for name in names:
                os.close(os.open(name, os.O_RDONLY))
        """
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path])
    assert child.wait(60) == 0
    agent.process.send_signal(signal.SIGCONT)
    sink.start()
    agent.stop()
    sink.check()
    lost = sink.lost()
    assert lost["shed"] > 0
    assert {cause for cause, number in lost.items() if number} <= {"shed", "ring"}
    kept = Counter(row["operation"] for row in sink.rows() if row["pid"] == child.pid)
    if lost["ring"] == 0:
        assert kept["create"] == 2_000
        assert 30_000 - lost["shed"] <= kept["open"] < 30_000
    assert agent.said()[-1]["shed"] == lost["shed"]


def test_a_kill_leaves_the_delivered_beginning_exact(
    start: Callable[..., Any], sink: Any, flood: Flood, tmp_path: Path
) -> None:
    agent = start()
    flood.write(20_000)
    sink.wait(lambda s: flood.told(s) > 100)
    agent.process.kill()
    agent.process.wait(10)
    sink.check()
    assert not any(batch.header["final"] for batch in sink.batches)
    told = flood.told(sink)
    earlier = sink.batches
    sink.batches = []

    again = start(enroll=False)
    flood.write(50)
    again.stop()
    sink.check()
    assert flood.told(sink) == 50
    assert told <= 20_000
    assert sink.batches[0].header["batch_seq"] == 1
    assert sink.batches[0].header["previous_digest"] is None
    assert sink.batches[0].header["load_id"] != earlier[0].header["load_id"]
    assert sink.batches[-1].header["final"] is True
    assert len(sink.enrolled) == 1


def test_memory_stays_bounded_while_ingest_is_away(start: Callable[..., Any], sink: Any, flood: Flood) -> None:
    agent = start("--buffer-bytes", str(8 << 20))
    sink.stop()
    flood.write(300_000)
    peak = agent.memory("VmHWM")
    sink.start()
    agent.stop()
    sink.check()
    assert peak < 100 << 20, f"{peak >> 20} MiB"
