"""The whole way with every store in S3: a batch is sent, staged, landed, queried, proven and erased."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from lake.holdings import holdings
from lake.settings import LakeSettings, StoreName
from tenancy.database import open_database
from tenancy.tenants import create_tenant

KAIMON = Path(sys.executable).with_name("kaimon")
STORES: tuple[StoreName, ...] = ("staging", "lake")


@pytest.fixture(scope="module")
def wire() -> ModuleType:
    """What a test needs to speak as a host."""
    spec = importlib.util.spec_from_file_location("wire", Path(__file__).parents[1] / "ingest" / "wire.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault("wire", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


def kaimon(*arguments: str) -> str:
    said = subprocess.run([str(KAIMON), *arguments], capture_output=True, text=True, env=os.environ, timeout=300)
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout + said.stderr


@pytest.mark.slow
def test_a_batch_goes_all_the_way_with_every_store_in_s3(
    request: pytest.FixtureRequest, wire: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not request.config.getoption("--full"):
        pytest.skip("a minute, or three on a busy machine: with --full")
    request.getfixturevalue("s3")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("KAIMON_HOME", str(home))
    db = open_database()
    for tenant in ("acme", "acme-2"):
        create_tenant(db, tenant, subscription="active")
    server = wire.Server(home, tmp_path / "log")
    try:
        for tenant in ("acme", "acme-2"):
            host = server.enroll(db, tenant)
            body = host.batch(5)
            for duplicate in (False, True):
                answer = server.send(host, body)
                assert (answer.status_code, answer.json()["duplicate"]) == (200, duplicate), answer.text
    finally:
        server.stop()
    told = {name: holdings(LakeSettings().url(name), name) for name in STORES}
    assert len(list(told["staging"].held("acme"))) == 1
    assert "acme: 1 segments, 1 batches, 5 events" in kaimon("land", "--all")
    found = kaimon("query", "--tenant", "acme", "--format", "json", "SELECT count(*) AS n FROM events")
    assert '"n": 5' in found.replace('"n":5', '"n": 5')
    day = datetime.now(UTC).date()
    kaimon("verify", "--tenant", "acme", "--from", day.isoformat(), "--to", day.isoformat())
    before = {name: list(store.held("acme-2")) for name, store in told.items()}
    kaimon("tenant", "erase", "acme", "--confirm", "acme")
    assert {name: list(store.held("acme")) for name, store in told.items()} == {"staging": [], "lake": []}
    assert {name: list(store.held("acme-2")) for name, store in told.items()} == before
    assert not [path for path in home.iterdir() if path.name in STORES], "nothing lies at home"
    db.close()
