from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lake.settings import LakeSettings
from pipelines.landing import Landed, land_tenant
from tenancy.database import Database, open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

STAGING = Path(__file__).parents[2] / "lake" / "staging.py"
RUNNER = Path(__file__).parent / "runner.py"
ROOT = Path(__file__).parents[3]


class Runner:
    """Starts landings in processes of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "steps"
        self.started: list[subprocess.Popen[str]] = []

    def start(self, **asked: Any) -> subprocess.Popen[str]:
        request = json.dumps({"home": str(self.home), "log": str(self.log)} | asked)
        process = subprocess.Popen(
            [sys.executable, str(RUNNER), request],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, **asked: Any) -> tuple[int, str]:
        process = self.start(**asked)
        said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def die(self, step: str, **asked: Any) -> None:
        """Land until `step` and die there."""
        code, said = self.run(die=step, **asked)
        assert code == -signal.SIGKILL, said
        assert self.steps()[-1] == step

    def stop(self, step: str, **asked: Any) -> subprocess.Popen[str]:
        """Land until `step` and return the process, stopped there."""
        process = self.start(stop=step, **asked)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert self.steps()[-1] == step
        return process

    def wake(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def steps(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    """The control database an hour from now: every lease that a dead process held has run out."""
    database = open_database(TenancySettings(home=home), lambda: datetime.now(UTC) + timedelta(hours=1))
    create_tenant(database, "acme")
    yield database
    database.close()


@pytest.fixture
def land(db: Database, home: Path) -> Callable[[], Landed]:
    return lambda: land_tenant(db, "acme", "test", LakeSettings(home=home))


@pytest.fixture
def runner(db: Database, home: Path) -> Iterator[Runner]:
    runner = Runner(home)
    yield runner
    for process in runner.started:
        if process.poll() is None:
            process.kill()
            process.communicate()
