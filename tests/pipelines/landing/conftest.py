from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lake.settings import LakeSettings
from pipelines.landing import Landed, land_tenant
from tenancy.database import Database, open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

sys.path.insert(0, str(Path(__file__).parent))

STAGING = Path(__file__).parents[2] / "lake" / "staging.py"


class SetClock:
    """A clock that stands where it was set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 10, 12, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def db(home: Path, clock: SetClock) -> Iterator[Database]:
    database = open_database(TenancySettings(home=home), clock)
    create_tenant(database, "acme")
    create_tenant(database, "beta")
    yield database
    database.close()


@pytest.fixture
def land(db: Database, home: Path) -> Callable[..., Landed]:
    """Land a tenant as a run of the pipelines would."""

    def land_it(tenant: str = "acme", **how: object) -> Landed:
        return land_tenant(db, tenant, "test", LakeSettings(home=home), **how)  # type: ignore[arg-type]

    return land_it
