"""Subscriptions: who may send, until when, and how much of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kaimon.base.problems import Problem
from tenancy.audit import read_chain
from tenancy.credentials import Authenticator
from tenancy.database import Database
from tenancy.enrollment import Enrolled, create_token, enroll, list_tokens
from tenancy.subscriptions import Subscription, subscription_in
from tenancy.tenants import create_tenant, get_tenant, set_subscription

SOURCE = "192.0.2.1"
DAY = 86_400
Refusal = Callable[[Authenticator, str], Problem | None]
HOST = {"os": "debian 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None}


@pytest.fixture
def tenant(db: Database) -> str:
    """A tenant on trial."""
    return create_tenant(db, "acme").tenant_id


def records(db: Database, tenant: str) -> list[dict[str, Any]]:
    return [record.content for record in read_chain(db, tenant)[1]]


def test_a_trial_ends_by_the_clock_with_nobody_writing_to_the_database(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], clock: Any, refusal: Refusal
) -> None:
    credential = enroll_host().credential
    authenticator = Authenticator(db)
    ends_at = clock() + timedelta(days=30)
    assert get_tenant(db, tenant).trial_ends_at == ends_at
    clock.move(30 * DAY - 0.001)
    assert refusal(authenticator, credential) is None
    before = get_tenant(db, tenant), records(db, tenant)
    clock.move(0.001)
    problem = refusal(authenticator, credential)
    assert (problem.status, problem.code) == (403, "subscription_lapsed")
    assert problem.detail == "the trial ended at 2026-03-31T12:00:00Z"
    assert problem.about["tenant"] == tenant
    # Who looks it up afresh is told the same.
    assert refusal(Authenticator(db), credential).detail == problem.detail
    assert (get_tenant(db, tenant), records(db, tenant)) == before


def test_a_trial_that_is_over_enrolls_nobody_and_spends_nothing(db: Database, tenant: str, clock: Any) -> None:
    _, token = create_token(db, tenant)
    clock.move(30 * DAY)
    with pytest.raises(Problem) as caught:
        enroll(db, token, "web-1", HOST, "boot-1", "0.1.0")
    assert (caught.value.status, caught.value.code) == (403, "subscription_lapsed")
    assert caught.value.about == {"tenant": tenant}
    assert list_tokens(db, tenant)[0].uses == 0


def test_a_trial_that_is_extended_goes_on_within_a_poll(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], clock: Any, refusal: Refusal
) -> None:
    credential = enroll_host().credential
    authenticator = Authenticator(db)
    clock.move(31 * DAY)
    assert refusal(authenticator, credential).code == "subscription_lapsed"
    set_subscription(db, tenant, trial_ends_at=clock() + timedelta(days=1))
    authenticator.poll()
    assert refusal(authenticator, credential) is None
    clock.move(DAY)
    assert refusal(authenticator, credential).code == "subscription_lapsed"


def test_past_due_may_send_while_its_grace_lasts_and_is_told_so(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], clock: Any, refusal: Refusal
) -> None:
    credential = enroll_host().credential
    set_subscription(db, tenant, "active")
    clock.move(365 * DAY)
    set_subscription(db, tenant, "past_due")
    authenticator = Authenticator(db)
    identity = authenticator.authenticate(credential, SOURCE)
    assert identity.subscription.warning == "past_due; grace_ends_at=2027-03-15T12:00:00Z"
    clock.move(7 * DAY)
    # Saying it again gives no new grace.
    set_subscription(db, tenant, "past_due")
    authenticator.poll()
    clock.move(7 * DAY - 0.001)
    assert refusal(authenticator, credential) is None
    clock.move(0.001)
    ended = "payment is past due, and its grace ended at 2027-03-15T12:00:00Z"
    assert refusal(authenticator, credential).detail == ended
    set_subscription(db, tenant, "active")
    authenticator.poll()
    assert authenticator.authenticate(credential, SOURCE).subscription.warning is None
    # The next time it is due, there is a grace of its own.
    set_subscription(db, tenant, "past_due")
    authenticator.poll()
    assert refusal(authenticator, credential) is None


def test_what_was_ended_says_since_when(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], clock: Any, refusal: Refusal
) -> None:
    credential = enroll_host().credential
    set_subscription(db, tenant, "ended")
    clock.move(DAY)
    set_subscription(db, tenant, "ended")
    assert refusal(Authenticator(db), credential).detail == "the subscription was ended at 2026-03-01T12:00:00Z"


def test_a_trial_does_not_begin_anew_by_itself(db: Database, tenant: str, clock: Any) -> None:
    set_subscription(db, tenant, "ended")
    set_subscription(db, tenant, "trial")
    assert get_tenant(db, tenant).trial_ends_at == clock() + timedelta(days=30)
    set_subscription(db, tenant, "ended")
    clock.move(31 * DAY)
    with pytest.raises(ValueError, match="the trial ended at 2026-03-31"):
        set_subscription(db, tenant, "trial")
    assert get_tenant(db, tenant).subscription == "ended"
    set_subscription(db, tenant, "trial", trial_ends_at=clock() + timedelta(days=3))
    assert get_tenant(db, tenant).trial_ends_at == clock() + timedelta(days=3)


def test_a_tenant_from_before_there_were_dates_goes_on(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], clock: Any, refusal: Refusal
) -> None:
    credential = enroll_host().credential
    with db.transaction() as session:
        session.connection().exec_driver_sql("UPDATE tenants SET trial_ends_at = NULL, subscription_since = NULL")
    clock.move(3650 * DAY)
    assert refusal(Authenticator(db), credential) is None
    set_subscription(db, tenant, trial_ends_at=clock())
    assert refusal(Authenticator(db), credential).code == "subscription_lapsed"
    assert Subscription("ended").lapse(clock()).since is None


@pytest.mark.parametrize(
    ("state", "terms", "complaint"),
    [
        ("active", {"trial_ends_at": datetime(2027, 1, 1, tzinfo=UTC)}, "only a subscription that is trial"),
        ("trial", {"grace_ends_at": datetime(2027, 1, 1, tzinfo=UTC)}, "only a subscription that is past_due"),
        ("active", {"max_hosts": 0}, "want 1 to"),
        ("active", {"max_daily_events": 10**15 + 1}, "want 1 to"),
    ],
)
def test_terms_that_mean_nothing_are_refused(
    db: Database, tenant: str, state: str, terms: dict[str, Any], complaint: str
) -> None:
    before = get_tenant(db, tenant)
    with pytest.raises(ValueError, match=complaint):
        set_subscription(db, tenant, state, **terms)
    assert get_tenant(db, tenant) == before
    with pytest.raises(ValueError, match=complaint):
        create_tenant(db, "zeta", subscription=state, **terms)
    assert get_tenant(db, "zeta") is None


def test_every_change_of_state_or_term_is_on_the_chain(db: Database, tenant: str, clock: Any) -> None:
    set_subscription(db, tenant, max_hosts=7, max_daily_events=1000)
    set_subscription(db, tenant, "past_due")
    set_subscription(db, tenant, grace_ends_at=clock() + timedelta(days=2))
    created, *changes = records(db, tenant)
    assert created["detail"] == {
        "subscription": "trial",
        "subscription_since": "2026-03-01T12:00:00+00:00",
        "trial_ends_at": "2026-03-31T12:00:00+00:00",
        "grace_ends_at": None,
        "max_hosts": None,
        "max_daily_events": None,
    }
    assert [change["act"] for change in changes] == ["subscription.change"] * 3
    told = [change["detail"] for change in changes]
    assert [(one["subscription"], one["max_hosts"], one["max_daily_events"]) for one in told] == [
        ("trial", 7, 1000),
        ("past_due", 7, 1000),
        ("past_due", 7, 1000),
    ]
    ends = [None, "2026-03-15T12:00:00+00:00", "2026-03-03T12:00:00+00:00"]
    assert [one["grace_ends_at"] for one in told] == ends
    assert json.dumps(told)


def test_limits_are_those_agreed_else_those_of_the_state(db: Database, tenant: str) -> None:
    def in_force() -> tuple[int | None, int | None]:
        found = subscription_in(get_tenant(db, tenant), db.settings)
        return found.max_hosts, found.max_daily_events

    assert in_force() == (50, 50_000_000)
    set_subscription(db, tenant, max_hosts=7)
    assert in_force() == (7, 50_000_000)
    set_subscription(db, tenant, "active")
    assert in_force() == (7, None)
    set_subscription(db, tenant, max_hosts=None)
    assert in_force() == (None, None)
