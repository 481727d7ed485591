from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from kaimon.base.clock import to_micros
from lake.commits import Writer
from lake.settings import LakeSettings
from pipelines.landing import Landed, land_tenant
from tenancy.database import Database, open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

STAGING = Path(__file__).parents[2] / "lake" / "staging.py"
RUNNER = Path(__file__).parent / "runner.py"
ROOT = Path(__file__).parents[3]


class Sent:
    """What was staged: by two nodes, some of it twice, with refused lines and a row out of its window."""

    def __init__(self, home: Path, staging: ModuleType) -> None:
        self.home, self.staging = home, staging
        strange = {"seq": 9, "time": to_micros(staging.later(days=-30))}
        self.landed = [staging.batch(number, received=staging.later(seconds=number)) for number in range(1, 7)]
        self.landed.append(staging.batch(1, agent="agt_0000000000000002", bad=(b"\xff", b"{}")))
        mixed = staging.Batch(7, ({"seq": 7}, strange, {"seq": 8}), received=staging.later(seconds=7))
        one = self.landed
        staging.stage(home, "acme", "n1", 1, [one[0], one[1]])
        staging.stage(home, "acme", "n1", 2, [one[2], mixed])
        staging.stage(home, "acme", "n1", 3, [one[3]])
        staging.stage(home, "acme", "n2", 1, [one[1], one[6]])
        staging.stage(home, "acme", "n2", 2, [one[4], one[5], one[3]])
        self.mixed = staging.Batch(7, ({"seq": 7}, {"seq": 8}), received=mixed.received)

    def check(self, extra: tuple[Any, ...] = (), copies: int = 10) -> None:
        """Hold every table against what was staged."""
        times = {"seq": 7}, {"seq": 8, "time": to_micros(self.mixed.received) - 1_000_000 + 2}
        mixed = self.staging.Batch(7, times, received=self.mixed.received)
        self.staging.assert_each_once(self.home, "acme", [*self.landed, mixed, *extra])
        ledger = self.staging.read(self.home, "acme", "batches")
        assert ledger.height == copies + len(extra)
        assert ledger.filter(pl.col("outcome") == "duplicate").height == 2
        quarantine = self.staging.read(self.home, "acme", "quarantine")
        assert sorted(quarantine["code"]) == ["bad_line", "bad_line", "out_of_window"]
        writer = Writer("acme", 0, LakeSettings(home=self.home))
        stand = [writer.versions(table, ["n1", "n2"]) for table in ("events", "quarantine", "batches", "hosts")]
        assert stand == [stand[0]] * 4


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

    def calls(self, **asked: Any) -> int:
        """Land and return how many storage calls that took, counted before and after each."""
        code, said = self.run(storage=True, **asked)
        assert code == 0, said
        return int(said.split()[-1])

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

    def stop_at(self, moment: int, **asked: Any) -> subprocess.Popen[str]:
        """Land until a moment around a storage call and return the process, stopped there."""
        process = self.start(storage=True, stop_at=moment, **asked)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), moment
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


@pytest.fixture
def sent(home: Path, staging: ModuleType, db: Database) -> Sent:
    return Sent(home, staging)


@pytest.fixture
def new_case(tmp_path: Path, staging: ModuleType) -> Callable[[int], tuple[Runner, Sent]]:
    """Make a home of its own, with a tenant and all that was staged for it."""

    def make(number: int) -> tuple[Runner, Sent]:
        there = tmp_path / f"case-{number}"
        database = open_database(TenancySettings(home=there))
        create_tenant(database, "acme")
        database.close()
        return Runner(there), Sent(there, staging)

    return make
