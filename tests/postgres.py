"""A throw-away PostgreSQL: a cluster in a temporary folder, reached by a Unix socket, gone with the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import psycopg

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
"""Debian's place for them; the newest version last."""

NUMBERS = count()
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60")


def missing() -> str | None:
    """Say why no cluster can be had here, if so."""
    if not BINARIES:
        return "PostgreSQL is not installed (script/bootstrap test)"
    if os.getuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        return "PostgreSQL does not run as root, and there is no user `postgres`"
    return None


class Cluster:
    """A running cluster; every test gets a database of its own, copied from a template."""

    def __init__(self, folder: Path, user: str, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.user = user
        self.process = process

    def url(self, database: str) -> str:
        return f"postgresql://{self.user}@/{database}?host={self.folder}"

    def say(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def create(self, template: str = "template1") -> str:
        """Make a database; return its name."""
        name = f"kaimon_{next(NUMBERS)}"
        self.say(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, database: str) -> None:
        self.say(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def pause(self) -> None:
        """Stop answering, as a database behind a broken network does; `resume` undoes it."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        for pid in (own, *map(int, children)):
            # A backend may have ended since it was listed.
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a cluster as a user who is not root; durable it is not."""
    programs = BINARIES[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="kaimon-pg-"))
    # It ends with us, also when we are killed.
    become = ["setpriv", "--pdeathsig", "INT"]
    user = pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:
        user = "postgres"
        shutil.chown(folder, user, user)
        become += ["--reuid", user, "--regid", user, "--init-groups"]
    data = folder / "data"
    create = [*become, programs / "initdb", "-D", data, "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]
    subprocess.run(create, check=True, capture_output=True, cwd=folder)
    options = [word for setting in QUICK for word in ("-c", setting)]
    run = [*become, programs / "postgres", "-D", data, "-k", folder, "-h", "", *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(run, cwd=folder, stdout=log, stderr=log)
    try:
        made = Cluster(folder, user, process)
        _wait(made)
        yield made
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(made: Cluster) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            made.say("SELECT 1")
        except psycopg.OperationalError:
            if made.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((made.folder / "log").read_text()) from None
            time.sleep(0.05)
        else:
            return
