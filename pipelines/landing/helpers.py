"""Processes that land tenants for a draining run: one interpreter keeps one core busy, however many threads it has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
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
"""How long a process that is told to stop may take to finish its group before it is killed, as by a crash."""


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


class _Helper:
    """One process, started when it is first asked for and again when it died."""

    def __init__(self, post: Post, cores: int) -> None:
        self._post = post
        self._cores = cores
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def land(self, errand: Errand, should_stop: Callable[[], bool]) -> Landed:
        pipe = self._pipe or self._start()
        try:
            pipe.send(errand)
            while not pipe.poll(_POLL_S):
                if should_stop():
                    # Its end of the pipe tells it to stop after the group that it is at.
                    self.close()
                    return Landed(errand.tenant)
            answer = pipe.recv()
        except (EOFError, OSError):
            self.close()
            get_logger(__name__).error("landing_process_died", tenant=errand.tenant)
            raise HelperError(errand.tenant, "ProcessDied") from None
        if isinstance(answer, Landed):
            return answer
        raise HelperError(errand.tenant, str(answer))

    def _start(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-m", "pipelines.landing.helper", str(number)]
            # A process of many needs no threads of its own for a tenant's few rows.
            environment = {"POLARS_MAX_THREADS": str(self._cores), **os.environ}
            self._process = subprocess.Popen(  # noqa: S603 - our own module, in our own interpreter
                command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[number], env=environment
            )
        self._pipe = Connection(ours.detach())
        self._pipe.send(self._post)
        return self._pipe

    def close(self) -> None:
        """Let the process finish its group, and wait until it has ended."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._pipe = self._process = None


class Helpers:
    """As many processes as tenants may land at once, started when needed; safe to use from as many threads."""

    def __init__(self, db: Database, lake: LakeSettings, holder: str, count: int, group_rows: int) -> None:
        post = Post(db.settings, lake, holder, actor(), is_reporting(), group_rows)
        cores = max(1, len(os.sched_getaffinity(0)) // count)
        self._all = [_Helper(post, cores) for _ in range(count)]
        self._free: SimpleQueue[_Helper] = SimpleQueue()
        for helper in self._all:
            self._free.put(helper)

    def land(self, tenant: str, listing: bool, should_stop: Callable[[], bool]) -> Landed:
        """Land what a tenant has staged, as `land_tenant` does.

        Raises:
            HelperError: it failed; the process has logged it, or died of it.
        """
        helper = self._free.get()
        try:
            return helper.land(Errand(tenant, listing), should_stop)
        finally:
            self._free.put(helper)

    def close(self) -> None:
        """End the processes; those that are needed again start anew. Nobody may be landing."""
        for helper in self._all:
            helper.close()
