"""Runs of a load, watched and unwatched in turn, and what follows from them."""

from __future__ import annotations

import contextlib
import functools
import os
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent_load.watchers import Cost, Nothing

T = TypeVar("T")
MOST_TRIES = 30


class Neighbours:
    """Looks for other agents: those that run beside a measurement watch it too."""

    def __init__(self) -> None:
        self.seen = False
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            for path in Path("/proc").glob("[0-9]*/stat"):
                with contextlib.suppress(OSError):
                    before, _, after = path.read_text().rpartition(")")
                    self.seen |= before.endswith("(kaimon-agent") and int(after.split()[1]) != os.getpid()
            time.sleep(0.1)

    def undisturbed(self, work: Callable[[], T]) -> T:
        """Return what `work` gives with no other agent on the machine; it is tried again a number of times."""
        for _ in range(MOST_TRIES):
            self.seen = False
            done = work()
            if not self.seen:
                return done
            print("  another agent ran meanwhile: once more", file=sys.stderr)
        raise SystemExit("another agent runs on this machine all the time")


@dataclass
class Run:
    """One run of a load: its own CPU and time in seconds, and the watcher's cost of it."""

    user: float
    system: float
    elapsed: float
    watcher: Cost

    @property
    def cpu(self) -> float:
        """The load's CPU."""
        return self.user + self.system

    @property
    def total(self) -> float:
        """The load's CPU and the watcher's."""
        return self.cpu + self.watcher.user + self.watcher.system


class Results:
    """Watched runs with the unwatched ones before and after them, by watcher."""

    def __init__(self, neighbours: Neighbours) -> None:
        self.runs: dict[str, list[tuple[Run, Run, Run]]] = defaultdict(list)
        self.neighbours = neighbours

    def alternate(self, load: Callable[[Nothing], Run], others: Mapping[str, Nothing], rounds: int) -> None:
        """Run a load unwatched, watched, unwatched …, with the watchers in changing order."""
        undisturbed = self.neighbours.undisturbed
        for number in range(rounds):
            names = list(others)
            names = names[number % len(names) :] + names[: number % len(names)]
            before = undisturbed(functools.partial(load, Nothing()))
            for name in names:
                watched = undisturbed(functools.partial(load, others[name]))
                after = undisturbed(functools.partial(load, Nothing()))
                self.runs[name].append((before, watched, after))
                before = after
                print(f"  {name}: {watched}", file=sys.stderr)

    def ratios(self, name: str, figure: str) -> list[float]:
        """Return the ratios of a figure of Run, one a round."""
        return [
            2 * getattr(watched, figure) / (getattr(before, figure) + getattr(after, figure))
            for before, watched, after in self.runs[name]
        ]

    def ratio(self, name: str, figure: str) -> float | None:
        """Return the median ratio, or none where there was no run."""
        return round(statistics.median(self.ratios(name, figure)), 3) if self.runs[name] else None

    def spread(self, name: str, figure: str) -> list[float] | None:
        """Return the lowest and the highest ratio, or none where there was no run."""
        every = self.ratios(name, figure)
        return [round(min(every), 3), round(max(every), 3)] if every else None

    def watched(self, name: str) -> list[Cost]:
        """Return a watcher's costs, one a round."""
        return [watched.watcher for _, watched, _ in self.runs[name]]

    def unwatched_cpu(self) -> float:
        """Return the median CPU seconds of the unwatched runs."""
        every = [run for rounds in self.runs.values() for before, _, after in rounds for run in (before, after)]
        return statistics.median(run.cpu for run in every)
