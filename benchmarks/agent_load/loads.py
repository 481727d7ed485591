"""The loads: a loop that opens, writes and closes, a compile, and files of which each is met once."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from agent_load import build
from agent_load.compare import Run
from agent_load.watchers import HERE, Agent, Cost, Nothing, program_clock


@dataclass
class Loads:
    """All of them, in one folder, of the sizes given."""

    folder: Path
    turns: int
    units: int
    files: int

    def __post_init__(self) -> None:
        """Compile the programs and write what is to be compiled."""
        for name in ("loop", "build", "many"):
            (self.folder / name).mkdir()
        for name in ("loop", "empty"):
            command = ["gcc", "-O2", "-Wall", "-static", "-o", self.folder / f"{name}.program", HERE / f"{name}.c"]
            subprocess.run(command, check=True)
        build.generate(self.folder / "build", self.units)

    def loop(self, watcher: Nothing, *, first: bool = False) -> Run:
        """Open, write and close one file on the first CPU; `first`: before everybody else there."""
        watcher.start()
        command = ["nice", "-n", "-20" if first else "0", "taskset", "-c", "0", self.folder / "loop.program"]
        command += [self.folder / "loop", "1", str(self.turns)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        watcher.mark()
        told = json.loads(child.communicate(b"\n")[0])
        if child.returncode != 0:
            raise SystemExit("the loop failed")
        return Run(told["user"] / 1e6, told["system"] / 1e6, told["elapsed"] / 1e6, watcher.finish())

    def compile(self, watcher: Nothing) -> Run:
        """Compile and link everything anew, two at a time."""
        folder = self.folder / "build"
        subprocess.run(["make", "-s", "clean"], cwd=folder, check=True)
        watcher.start()
        watcher.mark()
        began = time.perf_counter()
        child = subprocess.Popen(["make", "-s", "-j2"], cwd=folder)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        elapsed = time.perf_counter() - began
        if child.returncode != 0:
            raise SystemExit("the compile failed")
        return Run(usage.ru_utime, usage.ru_stime, elapsed, watcher.finish())

    def each_once(self, agent: Agent) -> Cost:
        """Make, write and remove files, and return what the agent used for their rows."""
        agent.start()
        agent.mark()
        command = [self.folder / "loop.program", self.folder / "many", "0", str(self.files)]
        subprocess.run(command, input=b"\n", stdout=subprocess.DEVNULL, check=True)
        return agent.finish()

    def in_programs(self, agent: Agent) -> float:
        """Return the microseconds that the agent's eBPF programs run in one turn of the loop."""
        clocked = Clocked(agent)
        with program_clock():
            self.loop(clocked, first=True)
        return clocked.spent_ns / self.turns / 1e3


class Clocked(Nothing):
    """An agent of which only the time inside its programs is asked for."""

    def __init__(self, agent: Agent) -> None:
        self.agent, self.spent_ns = agent, 0

    def start(self) -> None:
        """Begin to watch."""
        self.agent.start()

    def mark(self) -> None:
        """From now on its programs' time counts."""
        self.agent.mark()
        self.spent_ns = -self.agent.in_programs_ns()

    def finish(self) -> Cost:
        """Take the time and stop."""
        self.spent_ns += self.agent.in_programs_ns()
        return self.agent.finish()
