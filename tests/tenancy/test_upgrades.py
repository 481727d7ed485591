"""A database that an older kaimon made, opened by this one: what was there stays and means what it meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from tenancy.audit import read_chain
from tenancy.database import Database, make_engine, open_database
from tenancy.migrate import _make_file
from tenancy.settings import TenancySettings
from tenancy.subscriptions import subscription_in
from tenancy.tenants import get_tenant, list_tenants, set_subscription, use_of


@pytest.fixture
def old(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Return the settings of an empty database."""
    if backend == "sqlite":
        made = TenancySettings(home=tmp_path / "home")
        _make_file(tmp_path / "home" / "control.db")
        return made
    postgres = request.getfixturevalue("postgres")
    return TenancySettings(home=tmp_path / "home", database_url=postgres.url(postgres.create()))


def bring_to(settings: TenancySettings, revision: str, *statements: str) -> None:
    config = Config()
    config.set_main_option("script_location", "tenancy:migrations")
    engine = make_engine(settings.control_url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_tenants_from_before_there_were_dates_go_on_until_somebody_sets_one(old: Any, clock: Any) -> None:
    states = ("trial", "active", "past_due", "ended")
    made = [
        f"INSERT INTO tenants (tenant_id, name, subscription, created_at) "
        f"VALUES ('{state.replace('_', '-')}-1', 'A', '{state}', '2024-01-01 00:00:00')"
        for state in states
    ]
    bring_to(old, "0004", *made)
    db: Database = open_database(old, clock)
    now = clock()
    found = {tenant.subscription: subscription_in(tenant, db.settings) for tenant in list_tenants(db)}
    assert {state: one.state_at(now) for state, one in found.items()} == {state: state for state in states}
    assert all(one.ends_at is None and one.since is None for one in found.values())
    assert found["trial"].max_hosts == db.settings.trial_max_hosts
    assert found["past_due"].warning == "past_due"
    assert str(found["ended"].lapse(now)) == "the subscription was ended"
    assert use_of(db, "trial-1").events_today == 0
    set_subscription(db, "trial-1", trial_ends_at=now)
    tenant = get_tenant(db, "trial-1")
    assert tenant is not None
    assert subscription_in(tenant, db.settings).state_at(now) == "ended"
    (record,) = read_chain(db, "trial-1")[1]
    assert record.content["detail"]["trial_ends_at"] == now.isoformat()
    db.close()
