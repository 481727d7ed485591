"""A real server for the tests of ingest, tenants and hosts to use it with."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tenancy.database import Database, open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault(path.stem, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


_WIRE = _load(Path(__file__).with_name("wire.py"))
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def wire() -> ModuleType:
    """What a test needs to speak as a host: see wire.py."""
    return _WIRE


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, wire: ModuleType) -> Iterator[Any]:
    """One `kaimon ingest serve` for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("ingest")
    (folder / "home").mkdir()
    running = wire.Server(folder / "home", folder / "log")
    yield running
    running.kill()


@pytest.fixture(scope="session")
def database(server: Any) -> Iterator[Database]:
    """The server's control database."""
    opened = open_database(TenancySettings(home=server.home))
    yield opened
    opened.close()


@pytest.fixture
def new_host(server: Any, database: Database) -> Callable[[], Any]:
    """Make a host of a tenant of its own."""

    def make() -> Any:
        tenant = f"tenant-{next(_NUMBERS)}"
        create_tenant(database, tenant, subscription="active")
        return server.enroll(database, tenant)

    return make


@pytest.fixture
def host(new_host: Callable[[], Any]) -> Any:
    """A host of a tenant of its own."""
    return new_host()
