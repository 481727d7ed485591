"""Tenants."""

from __future__ import annotations

import pytest

from kaimon.base.clock import Clock
from tenancy.database import Database
from tenancy.tenants import Tenant, create_tenant, get_tenant, list_tenants, set_subscription


def test_a_tenant_is_as_it_was_made(db: Database, clock: Clock) -> None:
    made = create_tenant(db, "acme", "Acme, Inc.", "active")
    assert made == Tenant("acme", "Acme, Inc.", "active", clock(), subscription_since=clock())
    assert get_tenant(db, "acme") == made
    assert create_tenant(db, "zeta").name == "zeta"
    assert [tenant.tenant_id for tenant in list_tenants(db)] == ["acme", "zeta"]
    assert get_tenant(db, "nobody") is None


@pytest.mark.parametrize(
    "tenant_id",
    ["", "a", "ab", "Acme", "1acme", "-acme", "acme-", "ac_me", "acme\n", "a" * 41, "../etc", "acmé", "a b c"],
)
def test_an_id_that_could_not_be_a_folder_and_a_host_name_is_refused(db: Database, tenant_id: str) -> None:
    with pytest.raises(ValueError, match="tenant id"):
        create_tenant(db, tenant_id)
    assert list_tenants(db) == []


@pytest.mark.parametrize("tenant_id", ["abc", "a-1", "a" * 40, "a--b"])
def test_ids_at_the_limits_are_taken(db: Database, tenant_id: str) -> None:
    assert create_tenant(db, tenant_id).tenant_id == tenant_id


def test_an_id_is_given_once(db: Database) -> None:
    create_tenant(db, "acme", "first")
    with pytest.raises(ValueError, match="exists already"):
        create_tenant(db, "acme", "second")
    assert [tenant.name for tenant in list_tenants(db)] == ["first"]


def test_a_subscription_changes_to_known_states_of_known_tenants_only(db: Database) -> None:
    create_tenant(db, "acme")
    set_subscription(db, "acme", "past_due")
    assert get_tenant(db, "acme").subscription == "past_due"
    with pytest.raises(ValueError, match="want one of"):
        set_subscription(db, "acme", "gratis")
    with pytest.raises(ValueError, match="no tenant"):
        set_subscription(db, "nobody", "ended")
    with pytest.raises(ValueError, match="want one of"):
        create_tenant(db, "zeta", subscription="gratis")
