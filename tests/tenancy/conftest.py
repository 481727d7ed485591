"""A control database of its own for every test, and a clock that the test sets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

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


@pytest.fixture
def in_processes(settings: TenancySettings) -> Callable[..., list[str]]:
    """Run the same program in several processes at once; return what each wrote."""

    def run(program: str, processes: int, *arguments: str) -> list[str]:
        command = [sys.executable, "-W", "error", "-c", program, str(settings.home), *arguments]

        def one(_number: int) -> str:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            return done.stdout

        with ThreadPoolExecutor(processes) as pool:
            return list(pool.map(one, range(processes)))

    return run
