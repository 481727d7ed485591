"""Subscriptions: who may send, until when, and how much of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kaimon.base.problems import Problem
from tenancy.audit import read_chain
from tenancy.credentials import Authenticator
from tenancy.database import Database, open_database
from tenancy.enrollment import Enrolled, create_token, enroll, list_tokens, revoke_token
from tenancy.hosts import list_hosts, revoke_host
from tenancy.subscriptions import Subscription, subscription_in
from tenancy.tenants import create_tenant, get_tenant, set_subscription, use_of
from tenancy.usage import seconds_left

SOURCE = "192.0.2.1"
DAY = 86_400
HOST = {"os": "debian 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None}

RACE = """
from pathlib import Path
from kaimon.base.problems import Problem
from tenancy.database import open_database
from tenancy.enrollment import enroll
from tenancy.settings import TenancySettings

def work(home, tokens):
    db = open_database(TenancySettings(home=Path(home)))
    for token in Path(tokens).read_text().split() * 5:
        try:
            print(enroll(db, token, "web", {}, "boot", "0.1.0").agent_id)
        except Problem as problem:
            assert problem.code == "host_limit", problem
"""


@pytest.fixture
def tenant(db: Database) -> str:
    """A tenant on trial."""
    return create_tenant(db, "acme").tenant_id


def refusal(authenticator: Authenticator, credential: str) -> Problem | None:
    """Return why a credential is refused, asked both ways."""
    cached = authenticator.authenticate_cached(credential)
    try:
        authenticator.authenticate(credential, SOURCE)
    except Problem as problem:
        assert cached is None
        return problem
    return None


def records(db: Database, tenant: str) -> list[dict[str, Any]]:
    return [record.content for record in read_chain(db, tenant)[1]]


def test_a_trial_ends_by_the_clock_with_nobody_writing_to_the_database(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], clock: Any
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
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], clock: Any
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
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], clock: Any
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
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], clock: Any
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
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], clock: Any
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


def test_hosts_are_counted_exactly_and_a_revoked_one_makes_room(db: Database, tenant: str) -> None:
    set_subscription(db, tenant, max_hosts=3)
    record, token = create_token(db, tenant, max_uses=1)
    _, other = create_token(db, tenant)
    for one in (token, other, other):
        enroll(db, one, "web-1", HOST, "boot-1", "0.1.0")
    with pytest.raises(Problem) as caught:
        enroll(db, other, "web-1", HOST, "boot-1", "0.1.0")
    assert (caught.value.status, caught.value.code) == (403, "host_limit")
    assert caught.value.detail == "the subscription allows 3 hosts"
    assert caught.value.about == {"tenant": tenant}
    assert sum(token.uses for token in list_tokens(db, tenant)) == 3
    assert use_of(db, tenant).hosts == 3
    revoke_token(db, tenant, record.token_id)
    assert use_of(db, tenant).hosts == 2
    newest = enroll(db, other, "web-1", HOST, "boot-1", "0.1.0")
    assert revoke_host(db, tenant, newest.agent_id)
    enroll(db, other, "web-1", HOST, "boot-1", "0.1.0")


def test_racing_enrollments_with_several_tokens_never_exceed_the_hosts(
    db: Database, tenant: str, in_processes: Callable[..., list[str]], tmp_path: Path
) -> None:
    set_subscription(db, tenant, "active", max_hosts=13)
    (tmp_path / "tokens").write_text("\n".join(create_token(db, tenant)[1] for _ in range(4)))
    lines = "".join(in_processes(RACE, 4, db.settings.home, tmp_path / "tokens")).split()
    assert len(lines) == len(set(lines)) == 13
    assert {host.agent_id for host in list_hosts(db, tenant)} == set(lines)


def test_past_the_days_events_a_tenant_is_told_to_come_back_tomorrow(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], clock: Any
) -> None:
    credential = enroll_host().credential
    set_subscription(db, tenant, max_daily_events=1000)
    authenticator = Authenticator(db)
    authenticator.use.add(tenant, 999)
    assert refusal(authenticator, credential) is None
    authenticator.use.add(tenant, 500)
    problem = refusal(authenticator, credential)
    assert (problem.status, problem.code) == (429, "daily_limit")
    assert problem.headers == {"Retry-After": str(12 * 3600)}
    assert problem.about["tenant"] == tenant
    clock.move(12 * 3600)
    assert refusal(authenticator, credential) is None
    assert authenticator.use.today(tenant) == 0


def test_a_limit_that_is_raised_holds_within_a_poll(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled]
) -> None:
    credential = enroll_host().credential
    set_subscription(db, tenant, max_daily_events=10)
    authenticator = Authenticator(db)
    authenticator.use.add(tenant, 10)
    assert refusal(authenticator, credential).code == "daily_limit"
    set_subscription(db, tenant, max_daily_events=20)
    authenticator.poll()
    assert refusal(authenticator, credential) is None


def test_workers_learn_of_each_others_events_when_they_write_theirs_down(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled]
) -> None:
    credential = enroll_host().credential
    set_subscription(db, tenant, max_daily_events=1000)
    one, other = Authenticator(db), Authenticator(db)
    assert refusal(one, credential) is None
    assert refusal(other, credential) is None
    one.use.add(tenant, 600)
    other.use.add(tenant, 500)
    one.use.keep(now=True)
    assert one.use.today(tenant) == 600
    assert refusal(other, credential) is None
    other.use.keep(now=True)
    assert other.use.today(tenant) == 1100
    assert refusal(other, credential).code == "daily_limit"
    assert use_of(db, tenant).events_today == 1100
    # One that starts now knows from its first look-up.
    assert refusal(Authenticator(db), credential).code == "daily_limit"


def test_counting_costs_no_question(db: Database, tenant: str, enroll_host: Callable[..., Enrolled]) -> None:
    from sqlalchemy import event

    credential = enroll_host().credential
    authenticator = Authenticator(db)
    authenticator.authenticate(credential, SOURCE)
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    for _ in range(100):
        assert authenticator.authenticate_cached(credential)
        authenticator.use.add(tenant, 100)
        authenticator.use.keep()
    event.remove(db.engine, "before_cursor_execute", note)
    assert asked == []
    authenticator.use.keep(now=True)
    authenticator.use.keep(now=True)
    assert use_of(db, tenant).events_today == 10_000


def test_what_was_counted_before_midnight_is_written_to_its_day(db: Database, tenant: str, clock: Any) -> None:
    authenticator = Authenticator(db)
    authenticator.use.add(tenant, 7)
    clock.move(DAY)
    authenticator.use.add(tenant, 2)
    authenticator.use.keep(now=True)
    assert use_of(db, tenant).events_today == 2
    clock.move(-DAY)
    assert use_of(db, tenant).events_today == 7


def test_what_could_not_be_written_is_written_later_and_counts_meanwhile(
    db: Database, tenant: str, away: Callable[..., Any]
) -> None:
    authenticator = Authenticator(db)
    authenticator.use.add(tenant, 5)
    with away():
        with pytest.raises(Exception, match=r"unable to open|not currently accepting"):
            authenticator.keep_notes(now=True)
        assert authenticator.use.today(tenant) == 5
    authenticator.use.add(tenant, 3)
    authenticator.keep_notes(now=True)
    assert use_of(db, tenant).events_today == 8


def test_what_many_threads_count_is_written_once(db: Database, tenant: str) -> None:
    authenticator = Authenticator(db)

    def count() -> None:
        for number in range(200):
            authenticator.use.add(tenant, 1)
            if number % 50 == 0:
                authenticator.use.keep(now=True)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    authenticator.use.keep(now=True)
    assert use_of(db, tenant).events_today == authenticator.use.today(tenant) == 800


def test_the_poller_writes_down_what_is_left_when_it_stops(db: Database, tenant: str) -> None:
    authenticator, stop = Authenticator(db), threading.Event()
    poller = threading.Thread(target=authenticator.run_poller, args=(stop,))
    poller.start()
    authenticator.use.add(tenant, 4)
    stop.set()
    poller.join(30)
    again = open_database(db.settings, db.clock)
    assert use_of(again, tenant).events_today == 4
    again.close()


@pytest.mark.parametrize(
    ("at", "left"),
    [
        (datetime(2026, 3, 1, 0, 0, tzinfo=UTC), DAY),
        (datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC), 1),
        (datetime(2026, 12, 31, 23, 0, tzinfo=UTC), 3600),
    ],
)
def test_a_day_ends_at_midnight_utc(at: datetime, left: int) -> None:
    assert seconds_left(at) == left
