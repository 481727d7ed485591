"""How much a subscription lets a tenant send: hosts, exactly, and events a day."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kaimon.base.problems import Problem
from tenancy.credentials import Authenticator
from tenancy.database import Database, open_database
from tenancy.enrollment import Enrolled, create_token, enroll, list_tokens, revoke_token
from tenancy.hosts import list_hosts, revoke_host
from tenancy.tenants import create_tenant, set_subscription, use_of
from tenancy.usage import seconds_left

SOURCE = "192.0.2.1"
DAY = 86_400
Refusal = Callable[[Authenticator, str], Problem | None]
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
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], clock: Any, refusal: Refusal
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
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], refusal: Refusal
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
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], refusal: Refusal
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
