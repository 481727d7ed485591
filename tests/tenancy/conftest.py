"""A control database of its own for every test, and a clock that the test sets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tenancy.database import Database, open_database
from tenancy.enrollment import Enrolled, create_token, enroll
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

HOST = {"os": "debian 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None}


class SetClock:
    """A clock that stands where it was set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class SetSeconds:
    """A monotonic clock that stands where it was set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def seconds() -> SetSeconds:
    return SetSeconds()


@pytest.fixture
def settings(tmp_path: Path) -> TenancySettings:
    return TenancySettings(home=tmp_path / "home")


@pytest.fixture
def db(settings: TenancySettings, clock: SetClock) -> Iterator[Database]:
    database = open_database(settings, clock)
    yield database
    database.close()


@pytest.fixture
def tenant(db: Database) -> str:
    return create_tenant(db, "acme").tenant_id


@pytest.fixture
def enroll_host(db: Database, tenant: str) -> Callable[..., Enrolled]:
    """Enroll a host with `token`, or with a new one."""

    def enroll_it(token: str | None = None, hostname: str = "web-1") -> Enrolled:
        return enroll(db, token or create_token(db, tenant)[1], hostname, HOST, "boot-1", "0.1.0")

    return enroll_it


FORK = """
import contextlib, multiprocessing, os, sys

def one(number, barrier):
    with open(os.path.join(sys.argv[1], str(number)), "w") as written, contextlib.redirect_stdout(written):
        barrier.wait(60)
        work(*sys.argv[3:])

fork = multiprocessing.get_context("fork")
barrier = fork.Barrier(int(sys.argv[2]))
racing = [fork.Process(target=one, args=(number, barrier)) for number in range(int(sys.argv[2]))]
for process in racing:
    process.start()
for process in racing:
    process.join()
sys.exit(max(abs(process.exitcode) for process in racing))
"""


@pytest.fixture
def in_processes(tmp_path: Path) -> Callable[..., list[str]]:
    """Run `work(*arguments)` of a program in several processes that start at the same moment.

    They fork after the program's imports and before anything is opened. Returns what each wrote.
    """

    def run(program: str, processes: int, *arguments: object) -> list[str]:
        out = Path(mkdtemp(dir=tmp_path))
        command = [sys.executable, "-W", "error", "-c", program + FORK, out, processes, *arguments]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return [(out / str(number)).read_text() for number in range(processes)]

    return run
