"""Processes that land tenants for a draining run: one interpreter keeps one core busy, however many threads it has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Final

from kaimon.base.access import is_reporting
from kaimon.base.acting import Actor, actor
from kaimon.base.logs import get_logger
from lake.settings import LakeSettings
from pipelines.landing.land import Landed
from tenancy.database import Database
from tenancy.settings import TenancySettings

_POLL_S: Final = 0.2
_PATIENCE_S: Final = 60.0
"""How long a process that is told to stop may take to finish its groups before it is killed, as by a crash."""
LANES: Final = 2
"""Tenants that a process lands at once: while one waits for the disk or the database, the other has the core."""
_PROGRAM: Final = (
    "from lake.lean import without_pandas; without_pandas(); from pipelines.landing.helper import main; main()"
)
"""pandas, which pyarrow imports wherever it is installed, is a third of the start."""


class HelperError(Exception):
    """A tenant's landing failed in a process of its own, which has logged why; `kind` is the error's class."""

    def __init__(self, tenant: str, kind: str) -> None:
        super().__init__(f"{tenant}: {kind}")
        self.kind = kind


@dataclass(frozen=True)
class Post:
    """What a process has to know before it lands anything."""

    tenancy: TenancySettings
    lake: LakeSettings
    holder: str
    who: Actor
    reports: bool
    group_rows: int


@dataclass(frozen=True)
class Errand:
    """A tenant to land, and whether by listing."""

    tenant: str
    listing: bool


class _Process:
    """One process, with a pipe for each tenant that it lands at once; started when asked and again when it died."""

    def __init__(self, post: Post, cores: int, lanes: int) -> None:
        self._post = post
        self._cores = cores
        self._process: subprocess.Popen[bytes] | None = None
        self._pipes: list[Connection | None] = [None] * lanes
        self._lock = threading.Lock()

    def land(self, lane: int, errand: Errand, should_stop: Callable[[], bool]) -> Landed:
        pipe = self._pipe(lane)
        try:
            pipe.send(errand)
            while not pipe.poll(_POLL_S):
                if should_stop():
                    # Its end of the pipe tells it to stop after the group that it is at; `close` waits for that.
                    self._forget(pipe)
                    return Landed(errand.tenant)
            answer = pipe.recv()
        except (EOFError, OSError):
            self._bury(pipe)
            get_logger(__name__).error("landing_process_died", tenant=errand.tenant)
            raise HelperError(errand.tenant, "ProcessDied") from None
        if isinstance(answer, Landed):
            return answer
        raise HelperError(errand.tenant, str(answer))

    def _pipe(self, lane: int) -> Connection:
        with self._lock:
            return self._pipes[lane] or self._start()[lane]

    def _start(self) -> list[Connection]:
        self._end()
        pairs = [socket.socketpair() for _ in self._pipes]
        with ExitStack() as stack:
            numbers = [stack.enter_context(theirs).fileno() for _, theirs in pairs]
            command = [sys.executable, "-c", _PROGRAM, *map(str, numbers)]
            # A process of many needs no threads of its own for a tenant's few rows.
            environment = {"POLARS_MAX_THREADS": str(self._cores), **os.environ}
            self._process = subprocess.Popen(  # noqa: S603 - our own module, in our own interpreter
                command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=numbers, env=environment
            )
        pipes = [Connection(ours.detach()) for ours, _ in pairs]
        self._pipes = [*pipes]
        pipes[0].send(self._post)
        return pipes

    def _forget(self, pipe: Connection) -> None:
        pipe.close()
        with self._lock:
            self._pipes = [None if one is pipe else one for one in self._pipes]

    def _bury(self, pipe: Connection) -> None:
        """Make sure that a process which failed one of its tenants is dead: whoever else it had sees that by itself."""
        with self._lock:
            if pipe in self._pipes:
                self._pipes = [None] * len(self._pipes)
                self._end()
        pipe.close()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Let the process finish its groups, and wait until it has ended."""
        for pipe in self._pipes:
            if pipe is not None:
                pipe.close()
        self._pipes = [None] * len(self._pipes)
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE_S)
        self._end()


class Helpers:
    """Processes that land `LANES` tenants at once each, started when needed; safe to use from as many threads."""

    def __init__(self, db: Database, lake: LakeSettings, holder: str, count: int, group_rows: int) -> None:
        post = Post(db.settings, lake, holder, actor(), is_reporting(), group_rows)
        cores = max(1, len(os.sched_getaffinity(0)) // count)
        self._all = [_Process(post, cores, LANES) for _ in range(count)]
        self._free: SimpleQueue[tuple[_Process, int]] = SimpleQueue()
        # Every process has a tenant before one has two.
        for lane in range(LANES):
            for process in self._all:
                self._free.put((process, lane))

    def land(self, tenant: str, listing: bool, should_stop: Callable[[], bool]) -> Landed:
        """Land what a tenant has staged, as `land_tenant` does.

        Raises:
            HelperError: it failed; the process has logged it, or died of it.
        """
        process, lane = self._free.get()
        try:
            return process.land(lane, Errand(tenant, listing), should_stop)
        finally:
            self._free.put((process, lane))

    def close(self) -> None:
        """End the processes; those that are needed again start anew. Nobody may be landing."""
        for process in self._all:
            process.close()
