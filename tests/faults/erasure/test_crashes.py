"""An erasure killed at any of its steps is finished by the next one, with the same counts on the receipt."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lake.settings import LakeSettings
from lake.stores import open_store
from pipelines.landing import land_tenant
from pipelines.retention.places import survey
from tenancy.audit import read_chain
from tenancy.audit_verify import verify_chain
from tenancy.database import open_database
from tenancy.enrollment import create_token, enroll
from tenancy.erasures import rows_of
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

ROOT = Path(__file__).parents[3]
RUNNER = Path(__file__).parent / "runner.py"
POINTS = 6
POINTS_FULL = 60
HOST = {"os": "debian 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None}


def run(home: Path, die: int | None = None) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(RUNNER), json.dumps({"home": str(home), "die": die})],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    return done.returncode, lines[-1] if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture
def prepared(tmp_path: Path, staging: ModuleType) -> Path:
    """A home with a tenant that has a token, a host, landed and staged segments, a page and a line in a log."""
    home = tmp_path / "prepared"
    db = open_database(TenancySettings(home=home))
    create_tenant(db, "acme")
    enroll(db, create_token(db, "acme")[1], "web-1", HOST, "boot-1", "0.1.0")
    for number in (1, 2):
        staging.stage(home, "acme", "node-a", number, [staging.batch(number)])
        if number == 1:
            assert land_tenant(db, "acme", "test", LakeSettings(home=home)).batches == 1
    for name, text in (("outbox/acme/day/2026-03-04-r1.html", "a page"), ("logs/ingest.log", '{"tenant": "acme"}\n')):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(text)
    db.close()
    return home


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_erasure_killed_at_any_step_is_finished_with_the_same_counts(
    prepared: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(prepared, whole)
    held = survey("acme", LakeSettings(home=prepared))
    code, said = run(whole)
    assert code == 0, said
    undisturbed = json.loads(said)
    erased = json.loads(undisturbed["receipt"])["erased"]
    assert erased["stores"] == held
    steps = len(undisturbed["steps"])
    seed = random.randrange(1 << 32)
    wanted = POINTS_FULL if request.config.getoption("--full") else POINTS
    points = sorted(random.Random(seed).sample(range(1, steps + 1), min(wanted, steps)))
    for point in points:
        home = tmp_path / f"killed-{point}"
        shutil.copytree(prepared, home)
        where = f"seed {seed}, step {point}: {undisturbed['steps'][point - 1]}"
        code, said = run(home, point)
        assert code == -signal.SIGKILL, f"{where}: {said}"
        code, said = run(home)
        assert code == 0, f"{where}: {said}"
        assert_gone(home, json.loads(said), erased, where)


def assert_gone(home: Path, answer: dict[str, Any], erased: dict[str, Any], where: str) -> None:
    again = json.loads(answer["receipt"])["erased"]
    # Lines may be counted by the run that died, and be blank for the next.
    assert {key: again[key] for key in ("stores", "control")} == {key: erased[key] for key in ("stores", "control")}, (
        where
    )
    assert "late" not in again, where
    assert survey("acme", LakeSettings(home=home)) == {}, where
    assert not any((home / place / "acme").exists() for place in ("staging", "lake", "outbox")), where
    assert (home / "logs" / "ingest.log").read_text().strip() == "", where
    db = open_database(TenancySettings(home=home))
    assert not any(rows_of(db, "acme").values()), where
    head, records = read_chain(db, "acme")
    assert verify_chain("acme", head, records, []) is None, where
    acts = [record.content["act"] for record in records if str(record.content["act"]).startswith("tenant.erase")]
    assert acts == ["tenant.erase.begin", "tenant.erase"], where
    db.close()
    receipts = [found.key for found in open_store("audit", LakeSettings(home=home)).list("receipts")]
    assert len(receipts) == 2, where
