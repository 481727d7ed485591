"""Who is speaking: answered from memory, forgotten when anything is revoked."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from kaimon.base.problems import Problem
from tenancy.credentials import Authenticator, HostIdentity, boot_seconds
from tenancy.database import Database
from tenancy.enrollment import Enrolled, create_token, list_tokens, revoke_token
from tenancy.limits import SourceLimiter
from tenancy.subscriptions import subscription_in
from tenancy.tenants import get_tenant, set_subscription
from tenancy.tokens import mint

Away = Callable[..., AbstractContextManager[None]]
SOURCE = "192.0.2.1"

WORKER = """
import sys, threading, time
from pathlib import Path
from kaimon.base.problems import Problem
from tenancy.credentials import Authenticator
from tenancy.database import open_database
from tenancy.settings import TenancySettings
db = open_database(TenancySettings(home=Path(sys.argv[1])))
credential = sys.stdin.readline().strip()
authenticator, stop = Authenticator(db), threading.Event()
poller = threading.Thread(target=authenticator.run_poller, args=(stop,))
poller.start()
answers = 0
try:
    while True:
        asked = time.monotonic()
        authenticator.authenticate_cached(credential) or authenticator.authenticate(credential, "192.0.2.1")
        answers += 1
        if answers == 1:
            print("welcome", flush=True)
        last_welcome = asked
        time.sleep(0.002)
except Problem as problem:
    print(problem.status, last_welcome, answers, flush=True)
stop.set()
poller.join()
"""


@contextmanager
def statements(db: Database) -> Iterator[list[str]]:
    """Collect what the database is asked."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    yield asked
    event.remove(db.engine, "before_cursor_execute", note)


def status_of(authenticator: Authenticator, credential: str, source: str = SOURCE) -> int:
    try:
        authenticator.authenticate(credential, source)
    except Problem as problem:
        return problem.status
    return 200


def revoke_all(db: Database, tenant: str) -> None:
    for token in list_tokens(db, tenant):
        revoke_token(db, tenant, token.token_id)


def test_a_credential_stands_for_its_host_and_tenant(db: Database, enroll_host: Callable[..., Enrolled]) -> None:
    enrolled = enroll_host(hostname="db\\x0a-1")
    authenticator = Authenticator(db)
    subscription = subscription_in(get_tenant(db, "acme"), db.settings)
    expected = HostIdentity("acme", enrolled.agent_id, "db\\x0a-1", subscription)
    assert authenticator.authenticate_cached(enrolled.credential) is None
    assert authenticator.authenticate(enrolled.credential, SOURCE) == expected
    assert authenticator.authenticate_cached(enrolled.credential) == expected


def test_a_known_credential_costs_no_question(db: Database, enroll_host: Callable[..., Enrolled]) -> None:
    credential = enroll_host().credential
    authenticator = Authenticator(db)
    authenticator.authenticate(credential, SOURCE)
    with statements(db) as asked:
        for _ in range(100):
            authenticator.authenticate(credential, SOURCE)
            assert authenticator.authenticate_cached(credential)
    assert asked == []


def test_a_revoked_credential_is_refused_after_the_next_poll(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled]
) -> None:
    credential = enroll_host().credential
    authenticator = Authenticator(db)
    assert status_of(authenticator, credential) == 200
    revoke_all(db, tenant)
    authenticator.poll()
    assert authenticator.authenticate_cached(credential) is None
    assert status_of(authenticator, credential) == 401


def test_an_enrollment_does_not_make_workers_forget(db: Database, enroll_host: Callable[..., Enrolled]) -> None:
    credential = enroll_host().credential
    authenticator = Authenticator(db)
    authenticator.authenticate(credential, SOURCE)
    enroll_host()
    authenticator.poll()
    assert authenticator.authenticate_cached(credential)


def test_an_ended_subscription_is_refused_and_a_renewed_one_is_welcome(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled]
) -> None:
    credential = enroll_host().credential
    authenticator = Authenticator(db)
    statuses = []
    for state in ("trial", "ended", "past_due", "active"):
        set_subscription(db, tenant, state)
        authenticator.poll()
        statuses += [status_of(authenticator, credential), status_of(authenticator, credential)]
        assert (authenticator.authenticate_cached(credential) is None) == (state == "ended")
    assert statuses == [200, 200, 403, 403, 200, 200, 200, 200]
    set_subscription(db, tenant, "ended")
    authenticator.poll()
    with pytest.raises(Problem) as caught:
        authenticator.authenticate(credential, SOURCE)
    assert caught.value.code == "subscription_lapsed"


def test_revocation_is_refused_by_another_process_within_a_second(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled]
) -> None:
    credential = enroll_host().credential
    command = [sys.executable, "-W", "error", "-c", WORKER, str(db.settings.home)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(2)
    ]
    try:
        for worker in workers:
            worker.stdin.write(credential + "\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout.readline().strip() == "welcome"
        revoke_all(db, tenant)
        revoked_at = time.monotonic()
        for worker in workers:
            status, last_welcome, answers = worker.stdout.readline().split()
            assert status == "401"
            assert int(answers) > 1
            assert float(last_welcome) - revoked_at < 1.0
            assert worker.wait(30) == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_an_identity_looked_up_before_a_revocation_is_not_remembered_after_it(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled]
) -> None:
    credential = enroll_host().credential
    authenticator = Authenticator(db)
    looked_up, revoked = threading.Event(), threading.Event()

    def pause(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "host_credentials" in statement and threading.current_thread().name == "asking":
            looked_up.set()
            assert revoked.wait(30)

    event.listen(db.engine, "after_cursor_execute", pause)
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(status_of(authenticator, credential)), name="asking")
    asking.start()
    assert looked_up.wait(30)
    revoke_all(db, tenant)
    authenticator.poll()
    revoked.set()
    asking.join(30)
    # It asked before the revocation, so it may be welcome; whoever asks from now on is not.
    assert answers == [200]
    assert authenticator.authenticate_cached(credential) is None
    assert status_of(authenticator, credential) == 401


def test_a_lookup_that_sees_a_newer_epoch_forgets_what_is_older(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled]
) -> None:
    record, token = create_token(db, tenant)
    old = enroll_host(token).credential
    other = enroll_host().credential
    authenticator = Authenticator(db)
    assert status_of(authenticator, old) == 200
    revoke_token(db, tenant, record.token_id)
    assert status_of(authenticator, other) == 200
    assert authenticator.authenticate_cached(old) is None


def test_a_worker_that_cannot_poll_for_thirty_seconds_says_503_until_it_can(
    db: Database, enroll_host: Callable[..., Enrolled], seconds: Any, away: Away
) -> None:
    credential, other = enroll_host().credential, enroll_host().credential
    authenticator = Authenticator(db, monotonic=seconds)
    assert status_of(authenticator, credential) == 200
    with away():
        with pytest.raises(Exception, match=r"unable to open|not currently accepting"):
            authenticator.poll()
        seconds.now += 30
        assert status_of(authenticator, credential) == 200
        assert authenticator.authenticate_cached(credential)
        assert status_of(authenticator, other) == 503
        seconds.now += 0.001
        assert authenticator.authenticate_cached(credential) is None
        with pytest.raises(Problem) as caught:
            authenticator.authenticate(credential, SOURCE)
        assert (caught.value.status, caught.value.code) == (503, "control_plane_unavailable")
        assert int(caught.value.headers["Retry-After"]) > 0
    assert status_of(authenticator, credential) == 503
    authenticator.poll()
    assert status_of(authenticator, credential) == 200


def test_a_revocation_made_while_a_worker_could_not_look_is_refused_when_it_can(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], seconds: Any, away: Away
) -> None:
    credential = enroll_host().credential
    authenticator = Authenticator(db, monotonic=seconds)
    assert status_of(authenticator, credential) == 200
    with away():
        seconds.now += 31
        assert status_of(authenticator, credential) == 503
    revoke_all(db, tenant)
    assert status_of(authenticator, credential) == 503
    authenticator.poll()
    assert status_of(authenticator, credential) == 401


def test_the_poller_survives_the_database_going_away(
    db: Database, enroll_host: Callable[..., Enrolled], caplog: Any, away: Away
) -> None:
    credential = enroll_host().credential
    quick = db.settings.model_copy(update={"revocation_poll_s": 0.005})
    authenticator, stop, failed = Authenticator(db, quick), threading.Event(), threading.Event()
    poll = authenticator.poll

    def noting() -> None:
        try:
            poll()
        except Exception:
            failed.set()
            raise

    authenticator.poll = noting
    poller = threading.Thread(target=authenticator.run_poller, args=(stop,))
    poller.start()
    try:
        with away():
            assert failed.wait(30)
        set_subscription(db, "acme", "ended")
        deadline = time.monotonic() + 30
        while status_of(authenticator, credential) != 403:
            assert time.monotonic() < deadline
    finally:
        stop.set()
        poller.join(30)
    assert not poller.is_alive()


def test_unknown_tokens_are_looked_up_at_a_limited_rate_by_source(db: Database, seconds: Any) -> None:
    limiter = SourceLimiter(per_second=2.0, burst=3, monotonic=seconds)
    authenticator = Authenticator(db, limiter=limiter)
    with statements(db) as asked:
        assert [status_of(authenticator, mint("hst")) for _ in range(6)] == [401, 401, 401, 429, 429, 429]
    assert sum("host_credentials" in statement for statement in asked) == 3
    assert status_of(authenticator, mint("hst"), "192.0.2.2") == 401
    seconds.now += 0.5
    assert [status_of(authenticator, mint("hst")) for _ in range(2)] == [401, 429]
    with pytest.raises(Problem) as caught:
        authenticator.authenticate(mint("hst"), SOURCE)
    assert caught.value.headers == {"Retry-After": "1"}


def test_a_quiet_source_saves_up_no_more_than_a_burst(db: Database, seconds: Any) -> None:
    authenticator = Authenticator(db, limiter=SourceLimiter(burst=2, monotonic=seconds))
    assert [status_of(authenticator, mint("hst")) for _ in range(3)] == [401, 401, 429]
    seconds.now += 86_400
    assert [status_of(authenticator, mint("hst")) for _ in range(3)] == [401, 401, 429]


def test_an_exhausted_source_does_not_shut_out_the_hosts_that_are_remembered(
    db: Database, enroll_host: Callable[..., Enrolled], seconds: Any
) -> None:
    credential = enroll_host().credential
    authenticator = Authenticator(db, limiter=SourceLimiter(burst=2, monotonic=seconds))
    assert status_of(authenticator, credential) == 200
    assert [status_of(authenticator, mint("hst")) for _ in range(3)] == [401, 401, 429]
    assert status_of(authenticator, credential) == 200


def test_many_legitimate_hosts_behind_one_address_are_never_limited(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], seconds: Any
) -> None:
    _, token = create_token(db, tenant)
    fleet = [enroll_host(token).credential for _ in range(30)]
    authenticator = Authenticator(db, limiter=SourceLimiter(burst=2, monotonic=seconds))
    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(lambda credential: status_of(authenticator, credential), fleet)) == {200}


def test_a_revoked_fleet_that_keeps_asking_costs_neither_questions_nor_allowance(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], seconds: Any
) -> None:
    _, token = create_token(db, tenant)
    fleet = [enroll_host(token).credential for _ in range(5)]
    revoke_all(db, tenant)
    authenticator = Authenticator(db, limiter=SourceLimiter(burst=2, monotonic=seconds))
    assert {status_of(authenticator, credential) for credential in fleet} == {401}
    with statements(db) as asked:
        assert {status_of(authenticator, credential) for credential in fleet * 10} == {401}
    assert asked == []


def test_what_is_no_credential_costs_no_question(db: Database) -> None:
    authenticator = Authenticator(db)
    with statements(db) as asked:
        for text in ("", "kmn_hst_x", mint("enr"), mint("api"), mint("hst")[:-1], "é" * 46):
            assert status_of(authenticator, text) == 401
            assert authenticator.authenticate_cached(text) is None
    assert asked == []


def test_memory_is_bounded(db: Database, enroll_host: Callable[..., Enrolled], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenancy.credentials._REMEMBERED", 10)
    authenticator = Authenticator(db, limiter=SourceLimiter(burst=1000))
    credential = enroll_host().credential
    for _ in range(50):
        status_of(authenticator, mint("hst"))
    assert status_of(authenticator, credential) == 200
    assert len(authenticator._known) + len(authenticator._refused) <= 20


def test_time_asleep_counts_as_time_that_nobody_looked() -> None:
    awake = time.monotonic()
    assert boot_seconds() >= awake


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("unix", "unix", True),
    ],
)
def test_a_source_is_an_address_or_an_ipv6_network(one: str, other: str, same: bool, seconds: Any) -> None:
    limiter = SourceLimiter(burst=1, monotonic=seconds)
    limiter.check(one)
    limiter.charge(one)
    try:
        limiter.check(other)
        limited = False
    except Problem:
        limited = True
    assert limited is same


def test_the_limiter_keeps_a_bounded_number_of_sources(monkeypatch: pytest.MonkeyPatch, seconds: Any) -> None:
    monkeypatch.setattr("tenancy.limits._SOURCES", 10)
    limiter = SourceLimiter(monotonic=seconds)
    for number in range(100):
        limiter.charge(f"192.0.2.{number}")
    assert list(limiter._buckets) == [f"192.0.2.{number}" for number in range(90, 100)]
