"""What the payment processor says of a subscription: each event once, and never an older one over a newer."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tenancy.audit import read_chain
from tenancy.billing import KEPT, BillingCustomer, Notice, customer_by_id, customer_of, hear, link_customer
from tenancy.billing_tables import BILLING_CUSTOMERS, BILLING_EVENTS
from tenancy.database import Database
from tenancy.erasures import begin, remove_rows
from tenancy.tables import SCHEMA
from tenancy.tenants import create_tenant, get_tenant, set_subscription

T0 = datetime(2026, 3, 1, 11, 0, tzinfo=UTC)
NUMBERS = itertools.count(1)


def told(kind: str, status: str, after_s: int = 0, **changes: Any) -> Notice:
    """What an event says that was made so long after T0; of the one subscription `sub_1` if not said otherwise."""
    made = Notice(
        f"evt_{next(NUMBERS)}",
        kind if "." in kind else f"customer.subscription.{kind}",
        T0 + timedelta(seconds=after_s),
        "cus_acme",
        "sub_1",
        status,
        begun_at=T0,
        latest_invoice="in_1",
    )
    return replace(made, **changes)


@pytest.fixture
def acme(db: Database) -> BillingCustomer:
    """A tenant on trial that is a customer of the processor's."""
    create_tenant(db, "acme")
    return link_customer(db, "acme", "cus_acme", live=True)


def state(db: Database, tenant: str = "acme") -> str:
    found = get_tenant(db, tenant)
    assert found is not None
    return found.subscription


def changes(db: Database) -> list[dict[str, Any]]:
    found = [record.content for record in read_chain(db, "acme")[1]]
    return [content for content in found if content["act"] == "subscription.change"]


def test_each_status_at_the_processor_is_a_state_here(db: Database) -> None:
    expected = {
        "incomplete": "trial",
        "incomplete_expired": "trial",
        "trialing": "active",
        "active": "active",
        "past_due": "past_due",
        "unpaid": "ended",
        "paused": "ended",
        "canceled": "ended",
        "something_new": "trial",
    }
    for status in expected:
        tenant = f"of-{status.replace('_', '-')}"
        create_tenant(db, tenant)
        link_customer(db, tenant, f"cus_{status}", live=True)
        hear(db, told("updated", status, customer_id=f"cus_{status}"))
    assert {status: state(db, f"of-{status.replace('_', '-')}") for status in expected} == expected


def test_a_change_is_on_the_tenants_chain_with_the_event_that_brought_it_and_once(
    db: Database, acme: BillingCustomer
) -> None:
    notice = told("created", "active")
    assert hear(db, notice) == ("acme", "applied")
    assert hear(db, notice) == ("acme", "repeated")
    assert hear(db, told("updated", "active", 5)) == ("acme", "unchanged")
    (record,) = changes(db)
    assert (record["detail"]["subscription"], record["detail"]["because"]) == ("active", notice.event_id)


def test_events_in_any_order_come_to_the_same_end(db: Database, clock: Any) -> None:
    story = [
        told("created", "active", 0),
        told("invoice.payment_failed", "failed", 3600, latest_invoice="in_1"),
        told("updated", "past_due", 3600),
        told("deleted", "canceled", 7200),
    ]
    for number, order in enumerate(itertools.permutations(story)):
        tenant, customer = f"tenant-{number}", f"cus_{number}"
        create_tenant(db, tenant, subscription="active")
        link_customer(db, tenant, customer, live=True)
        for notice in order:
            hear(db, replace(notice, event_id=f"{notice.event_id}-{number}", customer_id=customer))
        assert state(db, tenant) == "ended", [notice.kind for notice in order]


def test_an_older_event_never_wins_over_a_newer_one(db: Database, acme: BillingCustomer) -> None:
    assert hear(db, told("updated", "past_due", 100)) == ("acme", "applied")
    assert hear(db, told("updated", "active", 99)) == ("acme", "stale")
    assert hear(db, told("invoice.paid", "paid", 99)) == ("acme", "stale")
    assert state(db) == "past_due"


def test_a_subscription_that_was_cancelled_never_comes_back_but_another_may(
    db: Database, acme: BillingCustomer
) -> None:
    hear(db, told("updated", "active", 1))
    hear(db, told("deleted", "canceled", 100))
    for late in (told("updated", "active", 200), told("invoice.paid", "paid", 300)):
        assert hear(db, late) == ("acme", "stale")
    assert state(db) == "ended"
    begun = {"subscription_id": "sub_2", "begun_at": T0 + timedelta(seconds=400)}
    assert hear(db, told("created", "incomplete", 400, **begun)) == ("acme", "stale")
    assert hear(db, told("updated", "active", 401, **begun)) == ("acme", "applied")
    # What is said of the first now is nobody's business.
    assert hear(db, told("deleted", "canceled", 500)) == ("acme", "stale")
    assert state(db) == "active"


def test_where_two_run_at_once_the_end_of_the_older_ends_nothing(db: Database, acme: BillingCustomer) -> None:
    hear(db, told("created", "active", 0))
    second = {"subscription_id": "sub_2", "begun_at": T0 + timedelta(seconds=50)}
    hear(db, told("created", "active", 50, **second))
    assert hear(db, told("deleted", "canceled", 60)) == ("acme", "stale")
    assert state(db) == "active"
    hear(db, told("deleted", "canceled", 70, **second))
    assert state(db) == "ended"


def test_the_one_that_runs_on_counts_again_when_the_newer_has_ended(db: Database, acme: BillingCustomer) -> None:
    hear(db, told("created", "active", 0))
    second = {"subscription_id": "sub_2", "begun_at": T0 + timedelta(seconds=50)}
    hear(db, told("created", "active", 50, **second))
    hear(db, told("deleted", "canceled", 70, **second))
    assert hear(db, told("updated", "active", 60)) == ("acme", "stale")
    assert hear(db, told("updated", "active", 80)) == ("acme", "applied")
    assert state(db) == "active"


def test_an_invoice_counts_only_if_it_is_the_newest_of_the_subscription(db: Database, acme: BillingCustomer) -> None:
    hear(db, told("updated", "active", 0, latest_invoice="in_2"))
    old = told("invoice.payment_failed", "failed", 10, latest_invoice="in_1")
    assert hear(db, old) == ("acme", "unchanged")
    assert state(db) == "active"
    assert hear(db, told("invoice.payment_failed", "failed", 20, latest_invoice="in_2")) == ("acme", "applied")
    assert state(db) == "past_due"
    assert hear(db, told("invoice.paid", "paid", 30, latest_invoice="in_1")) == ("acme", "unchanged")
    assert state(db) == "past_due"
    assert hear(db, told("invoice.paid", "paid", 40, latest_invoice="in_2")) == ("acme", "applied")
    assert state(db) == "active"


def test_a_payment_that_fails_again_gives_no_new_grace(db: Database, acme: BillingCustomer, clock: Any) -> None:
    hear(db, told("updated", "past_due", 10))
    first = get_tenant(db, "acme").grace_ends_at
    clock.move(86_400)
    hear(db, told("invoice.payment_failed", "failed", 86_400))
    hear(db, told("updated", "past_due", 86_401))
    assert get_tenant(db, "acme").grace_ends_at == first


def test_two_events_of_one_second_that_differ_are_not_guessed(db: Database, acme: BillingCustomer) -> None:
    hear(db, told("updated", "active", 10))
    other = told("updated", "past_due", 10)
    assert hear(db, other) == ("acme", "unsure")
    assert state(db) == "active"
    known = customer_by_id(db, "cus_acme")
    assert known is not None
    # Something counted while the processor was asked: what it said may be old by now.
    hear(db, told("updated", "active", 11))
    assert hear(db, other, sure=True, version=known.version) == ("acme", "unsure")
    assert state(db) == "active"
    known = customer_by_id(db, "cus_acme")
    assert hear(db, other, sure=True, version=known.version) == ("acme", "applied")
    assert state(db) == "past_due"
    assert customer_by_id(db, "cus_acme").told_at == T0 + timedelta(seconds=11)


def test_of_one_second_a_subscription_is_created_then_updated_then_deleted(db: Database, acme: BillingCustomer) -> None:
    hear(db, told("updated", "past_due", 10))
    assert hear(db, told("created", "active", 10)) == ("acme", "stale")
    assert hear(db, told("deleted", "canceled", 10)) == ("acme", "applied")
    assert state(db) == "ended"


def test_where_nobody_can_be_asked_the_later_of_one_second_counts_and_never_an_older(
    db: Database, acme: BillingCustomer
) -> None:
    hear(db, told("updated", "active", 10), wins_ties=True)
    assert hear(db, told("updated", "past_due", 10), wins_ties=True) == ("acme", "applied")
    assert hear(db, told("updated", "active", 9), wins_ties=True) == ("acme", "stale")
    assert state(db) == "past_due"


def test_an_event_that_comes_twenty_times_at_once_counts_once(db: Database, acme: BillingCustomer) -> None:
    notice = told("updated", "active", 1)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: hear(db, notice)[1], range(20)))
    assert sorted(outcomes) == ["applied"] + ["repeated"] * 19
    assert len(changes(db)) == 1


def test_the_order_holds_also_when_events_come_at_once(db: Database, acme: BillingCustomer) -> None:
    last = 30
    story = [told("updated", "past_due" if number % 2 else "active", number) for number in range(last)]
    story.append(told("updated", "active", last))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda notice: hear(db, notice), reversed(story)))
    assert state(db) == "active"
    found = customer_of(db, "acme", live=True)
    assert found is not None
    assert found.told_at == T0 + timedelta(seconds=last)


def test_an_event_of_nobodys_customer_changes_nobody_and_counts_once_it_is_somebodys(
    db: Database, acme: BillingCustomer
) -> None:
    notice = told("deleted", "canceled", customer_id="cus_new")
    assert hear(db, notice) == (None, "unknown")
    create_tenant(db, "bolt")
    link_customer(db, "bolt", "cus_new", live=True)
    assert hear(db, notice) == ("bolt", "applied")
    assert (state(db), state(db, "bolt")) == ("trial", "ended")


def test_nobody_becomes_anothers_customer_and_each_mode_has_its_own(db: Database, acme: BillingCustomer) -> None:
    create_tenant(db, "bolt")
    with pytest.raises(ValueError, match="another tenant's"):
        link_customer(db, "bolt", "cus_acme", live=True)
    with pytest.raises(ValueError, match="no tenant"):
        link_customer(db, "nobody", "cus_x", live=True)
    # Twice at once: the first stays.
    assert link_customer(db, "acme", "cus_other", live=True).customer_id == "cus_acme"
    assert customer_of(db, "acme", live=False) is None
    assert link_customer(db, "acme", "cus_test", live=False).customer_id == "cus_test"
    assert customer_of(db, "acme", live=True) is None
    acts = [record.content for record in read_chain(db, "acme")[1] if record.content["act"] == "billing.customer"]
    assert [(act["subject"], act["detail"]) for act in acts] == [
        ("cus_acme", {"live": True}),
        ("cus_test", {"live": False}),
    ]


def test_of_an_erased_tenant_nothing_is_left_and_nothing_is_heard(db: Database, acme: BillingCustomer) -> None:
    hear(db, told("updated", "active", 1))
    begin(db, "acme", "lake/acme")
    assert hear(db, told("updated", "past_due", 2)) == (None, "unknown")
    remove_rows(db, "acme")
    with db.reading() as session:
        assert session.execute(select(BILLING_CUSTOMERS)).all() == []
        assert session.execute(select(BILLING_EVENTS)).all() == []
    assert hear(db, told("updated", "past_due", 3)) == (None, "unknown")


def test_what_was_heard_is_forgotten_when_it_cannot_come_again(db: Database, acme: BillingCustomer, clock: Any) -> None:
    hear(db, told("updated", "active", 1))
    clock.move(KEPT.total_seconds() + 1)
    hear(db, told("updated", "active", 2))
    with db.reading() as session:
        assert len(session.execute(select(BILLING_EVENTS)).all()) == 1


def test_what_an_operator_set_stays_until_the_processor_speaks_again(db: Database, acme: BillingCustomer) -> None:
    hear(db, told("updated", "active", 1))
    set_subscription(db, "acme", "ended")
    assert state(db) == "ended"
    assert hear(db, told("updated", "active", 2)) == ("acme", "applied")
    assert state(db) == "active"


def test_no_table_has_a_place_for_a_card() -> None:
    words = ("card", "pan", "cvc", "cvv", "expiry", "iban", "account_number", "payment_method", "last4")
    names = [f"{table.name}.{column.name}" for table in SCHEMA.sorted_tables for column in table.columns]
    assert len(names) > 100
    allowed: list[str] = []
    assert [name for name in names if any(word in name.split(".")[1].split("_") for word in words)] == allowed
    assert [name for name in names if any(word in name for word in ("card", "payment_method", "iban"))] == allowed
