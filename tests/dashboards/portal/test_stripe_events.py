"""Stripe's events at a real portal: what is signed counts, once and in order; nothing else changes anything."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lake.access_reads import read_access
from lake.settings import LakeSettings
from lake.stores import open_store
from tenancy.audit import read_chain
from tenancy.billing import link_customer
from tenancy.tenants import get_tenant, set_subscription
from tests.dashboards.portal import stripe_signing as signing
from tests.dashboards.portal.stripe_signing import event, post, send, subscription
from tests.ingest import wire


@pytest.fixture(scope="module")
def billed(portal_maker: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A portal that Stripe knows; acme and bolt are its customers. One secret is about to take another's place."""
    secrets = f"{signing.OTHER}, {signing.SECRET}"
    settings = {"KAIMON_STRIPE_WEBHOOK_SECRET": secrets, "KAIMON_ACCESS_FLUSH_S": "0.2"}
    running = portal_maker(tmp_path_factory.mktemp("billed"), provider=False, **settings)
    try:
        for tenant in ("acme", "bolt"):
            link_customer(running.db, tenant, f"cus_{tenant}", live=True)
        yield running
    finally:
        running.close()


@pytest.fixture(autouse=True)
def on_trial(billed: Any) -> None:
    """Each test begins with both as they are while they try."""
    for tenant in ("acme", "bolt"):
        set_subscription(billed.db, tenant, "trial")


@pytest.fixture
def customer(billed: Any, request: pytest.FixtureRequest) -> str:
    """A customer of the test's own, who is the tenant acme from now on."""
    from sqlalchemy import delete

    from tenancy.billing_tables import BILLING_CUSTOMERS

    with billed.db.transaction() as session:
        session.execute(delete(BILLING_CUSTOMERS).where(BILLING_CUSTOMERS.c.tenant_id == "acme"))
    made = f"cus_{abs(hash(request.node.name))}"
    link_customer(billed.db, "acme", made, live=True)
    return made


def states(billed: Any) -> tuple[str, str]:
    found = [get_tenant(billed.db, tenant) for tenant in ("acme", "bolt")]
    return found[0].subscription, found[1].subscription


def outcome(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["outcome"])


def refused(answer: Any) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_a_subscription_that_ends_at_stripe_is_refused_by_ingest_with_the_reason(
    billed: Any, customer: str, tmp_path: Path
) -> None:
    ingest = wire.Server(billed.home, tmp_path / "ingest.log")
    try:
        assert outcome(send(billed, event("customer.subscription.created", subscription(customer, "active")))) == (
            "applied"
        )
        host = ingest.enroll(billed.db, "acme")
        assert ingest.send(host, host.batch()).status_code == 200
        ended = event("customer.subscription.deleted", subscription(customer, "canceled"))
        assert outcome(send(billed, ended)) == "applied"
        wire.wait_until(lambda: ingest.send(host, host.batch()).status_code == 403, "ingest to refuse")
        problem = ingest.send(host, host.batch()).json()
        assert problem["code"] == "subscription_lapsed"
        assert problem["detail"].startswith("the subscription was ended at 20")
    finally:
        ingest.kill()
    changes = [one.content for one in read_chain(billed.db, "acme")[1] if one.content["act"] == "subscription.change"]
    record = changes[-1]
    assert (record["actor"], record["detail"]["because"]) == ("stripe", ended["id"])
    assert record["request_id"].startswith("req_")


def test_every_kind_of_event_does_what_it_should(billed: Any, customer: str) -> None:
    now = int(time.time())

    def state_after(kind: str, about: dict[str, Any], second: int) -> str:
        assert send(billed, event(kind, about, created=now - 100 + second)).status_code == 200
        return states(billed)[0]

    invoice = signing.invoice(customer)
    first = signing.invoice(customer, billing_reason="subscription_create")
    assert state_after("invoice.payment_failed", first, 0) == "trial"
    assert state_after("customer.subscription.created", subscription(customer, "incomplete"), 1) == "trial"
    assert state_after("invoice.paid", first, 2) == "active"
    assert state_after("customer.subscription.updated", subscription(customer, "active"), 3) == "active"
    assert state_after("invoice.payment_failed", invoice, 4) == "past_due"
    assert state_after("invoice.paid", invoice, 5) == "active"
    # As records were before 2025-03-31.
    old = {**invoice, "parent": None, "subscription": f"sub_{customer}"}
    assert state_after("invoice.payment_failed", old, 6) == "past_due"
    assert state_after("customer.created", {"id": customer}, 7) == "past_due"
    assert state_after("customer.subscription.deleted", subscription(customer, "canceled"), 8) == "ended"


@pytest.mark.parametrize("how", ["forged", "none", "empty", "cut", "old", "another body", "v0 only", "not text"])
def test_what_is_not_signed_by_stripe_just_now_changes_nothing(billed: Any, customer: str, how: str) -> None:
    told = event("customer.subscription.deleted", subscription(customer, "canceled"))
    body, now = json.dumps(told), int(time.time())
    header: str | None = signing.signature(body)
    sent = body.encode()
    if how == "forged":
        header = signing.signature(body, "whsec_" + "0" * 32)
    elif how in {"none", "empty"}:
        header = None if how == "none" else ""
    elif how == "cut":
        header = str(header)[:-1]
    elif how == "old":
        header = signing.signature(body, at=now - 301)
    elif how == "another body":
        sent = body.replace("canceled", "active").encode()
    elif how == "v0 only":
        header = str(header).replace("v1=", "v0=")
    else:
        sent = b"\xff" + sent
    assert refused(post(billed, sent, header)) == (400, "bad_signature")
    assert states(billed)[0] == "trial"


def test_while_one_secret_takes_anothers_place_both_count(billed: Any, customer: str) -> None:
    for secret in (signing.SECRET, signing.OTHER):
        told = event("customer.subscription.updated", subscription(customer, "active"))
        assert outcome(send(billed, told, secret)) in {"applied", "unchanged"}


def test_an_event_of_the_other_mode_is_refused(billed: Any, customer: str) -> None:
    told = event("customer.subscription.updated", subscription(customer, "active"), livemode=False)
    assert refused(send(billed, told)) == (400, "wrong_mode")
    assert states(billed)[0] == "trial"


def test_an_event_that_is_sent_again_counts_once_also_at_once(billed: Any, customer: str) -> None:
    told = event("customer.subscription.updated", subscription(customer, "active"))
    before = len(read_chain(billed.db, "acme")[1])
    with ThreadPoolExecutor(6) as pool:
        outcomes = sorted(outcome(answer) for answer in pool.map(lambda _: send(billed, told), range(6)))
    assert outcomes == ["applied"] + ["repeated"] * 5
    # Stripe signs it anew when it sends it again; a recorded one is the same event.
    assert outcome(send(billed, told)) == "repeated"
    assert len(read_chain(billed.db, "acme")[1]) == before + 1


def test_an_older_event_that_comes_late_changes_nothing(billed: Any, customer: str) -> None:
    now = int(time.time())
    late = event("customer.subscription.updated", subscription(customer, "active"), created=now - 60)
    ended = event("customer.subscription.deleted", subscription(customer, "canceled"), created=now - 30)
    assert outcome(send(billed, ended)) == "applied"
    assert outcome(send(billed, late)) == "stale"
    assert states(billed)[0] == "ended"


def test_one_tenants_event_changes_no_other_whatever_it_says(billed: Any, customer: str) -> None:
    about = subscription(customer, "canceled", metadata={"tenant": "bolt", "kaimon_tenant": "bolt"})
    assert outcome(send(billed, event("customer.subscription.deleted", about))) == "applied"
    assert states(billed) == ("ended", "trial")


def test_of_a_customer_whom_nobody_knows_it_says_so_and_takes_it(billed: Any) -> None:
    told = event("customer.subscription.deleted", subscription("cus_stranger", "canceled"))
    assert outcome(send(billed, told)) == "unknown"
    assert states(billed) == ("trial", "trial")
    said = [json.loads(line) for line in billed.log.read_text().splitlines()]
    (line,) = [one for one in said if one.get("event_id") == told["id"]]
    assert (line["level"], line["customer"], line["outcome"]) == ("warning", "cus_stranger", "unknown")


def test_a_megabyte_is_refused_before_it_is_looked_at(billed: Any) -> None:
    body = json.dumps({"object": "event", "filler": "x" * 1_000_000})
    assert refused(post(billed, body.encode(), signing.signature(body))) == (413, "too_large")


@pytest.mark.parametrize(
    "about",
    [None, [], {}, {"customer": 7}, {"items": {"data": []}, "customer": "cus_acme", "status": "x" * 33, "id": "s"}],
)
def test_a_signed_event_that_makes_no_sense_is_refused_and_not_a_fault(billed: Any, about: Any) -> None:
    told = event("customer.subscription.updated", {})
    told["data"]["object"] = about
    assert refused(send(billed, told)) == (400, "bad_event")
    for body in ("[]", '"x"', "{}", "[" * 5000, "null"):
        assert refused(post(billed, body.encode(), signing.signature(body))) == (400, "bad_event")


def test_what_other_events_say_is_taken_and_ignored(billed: Any) -> None:
    assert outcome(send(billed, event("charge.succeeded", {"id": "ch_1"}))) == "ignored"
    once = signing.invoice("cus_bolt", parent=None)
    assert outcome(send(billed, event("invoice.paid", once))) == "ignored"


def test_without_a_secret_there_is_no_such_address(portal: Any) -> None:
    told = event("customer.subscription.updated", subscription("cus_acme", "active"))
    assert send(portal, told).status_code == 404


def test_each_event_leaves_a_record_of_who_sent_it_and_whose_it_is(billed: Any, customer: str) -> None:
    now = datetime.now(UTC)
    told = event("customer.subscription.updated", subscription(customer, "active"))
    assert outcome(send(billed, told)) == "applied"
    post(billed, b"{}", "t=1,v1=2")
    store = open_store("audit", LakeSettings(home=billed.home))

    def seen() -> list[tuple[Any, ...]]:
        found = list(read_access(store, now - timedelta(days=1), now + timedelta(days=1)))
        mine = [one for one in found if one.what == "portal POST /stripe/events" and one.at >= now]
        return [(one.outcome, one.status, one.who, one.tenant) for one in mine]

    deadline = time.monotonic() + 60
    while len(records := seen()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert records == [("ok", 200, "stripe", "acme"), ("bad_signature", 400, None, None)]


def test_nobody_looks_at_it_and_no_secret_or_body_is_in_the_log(billed: Any) -> None:
    assert billed.browser().get("/stripe/events").status_code == 404
    about = subscription("cus_acme", "active", description="ada@acme.example pays")
    send(billed, event("customer.subscription.updated", about), "whsec_forged")
    send(billed, event("customer.subscription.updated", about))
    said = billed.log.read_text()
    assert "stripe_event" in said
    for secret in (signing.SECRET[6:], signing.OTHER[6:], "ada@acme.example", "v1="):
        assert secret not in said
