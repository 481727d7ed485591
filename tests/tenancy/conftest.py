"""A control database of its own for every test, and a clock that the test sets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from kaimon.base.problems import Problem
from tenancy.credentials import Authenticator
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


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """Every test of the control plane runs on both; `parametrize("backend", [...], indirect=True)` says otherwise."""
    return str(request.param)


@pytest.fixture(scope="session")
def migrated(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A migrated database without contents, to be copied."""
    name = str(postgres.create())
    url = postgres.url(name)
    open_database(TenancySettings(home=tmp_path_factory.mktemp("migrated"), database_url=url)).close()
    return name


@pytest.fixture
def settings(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[TenancySettings]:
    """Where this test's database is; processes that it starts find it too, by their environment."""
    if backend == "sqlite":
        yield TenancySettings(home=tmp_path / "home")
        return
    postgres = request.getfixturevalue("postgres")
    name = postgres.create(request.getfixturevalue("migrated"))
    monkeypatch.setenv("KAIMON_DATABASE_URL", postgres.url(name))
    yield TenancySettings(home=tmp_path / "home")
    postgres.drop(name)


@pytest.fixture
def db(settings: TenancySettings, clock: SetClock) -> Iterator[Database]:
    database = open_database(settings, clock)
    yield database
    database.close()


@pytest.fixture
def away(db: Database, backend: str, request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[None]]:
    """Take the database away for the length of a `with`, as an unmounted disk or a stopped server would."""

    @contextmanager
    def files(opened: Database = db) -> Iterator[None]:
        opened.close()
        found = list(db.settings.home.glob("control.db*"))
        for path in found:
            path.rename(path.with_name(f"gone-{path.name}"))
        try:
            yield
        finally:
            for path in found:
                path.with_name(f"gone-{path.name}").rename(path)

    @contextmanager
    def server(_opened: Database = db) -> Iterator[None]:
        postgres, name = request.getfixturevalue("postgres"), db.settings.control_url.database
        postgres.say(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        postgres.say(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        try:
            yield
        finally:
            postgres.say(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    return files if backend == "sqlite" else server


@pytest.fixture
def tenant(db: Database) -> str:
    """A tenant without an end: the clock of other processes is not the one that the test sets."""
    return create_tenant(db, "acme", subscription="active").tenant_id


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


def _refusal(authenticator: Authenticator, credential: str) -> Problem | None:
    """Return why a credential is refused, asked both ways."""
    cached = authenticator.authenticate_cached(credential)
    try:
        authenticator.authenticate(credential, "192.0.2.1")
    except Problem as problem:
        assert cached is None
        return problem
    return None


@pytest.fixture
def refusal() -> Callable[[Authenticator, str], Problem | None]:
    """Ask both ways whether a credential is refused, and why."""
    return _refusal
