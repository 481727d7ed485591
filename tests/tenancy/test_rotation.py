"""Rotating keys under running workers and enrollments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import func, select, update

from kaimon.base.problems import Problem
from tenancy import rotation
from tenancy.audit import CHAIN, read_chain
from tenancy.audit_verify import verify_chain
from tenancy.credentials import Authenticator
from tenancy.database import Database, open_database
from tenancy.enrollment import Enrolled, create_token, enroll
from tenancy.keys import UnusableKeyError
from tenancy.rotation import list_keys, reseal, rotate, rotate_index
from tenancy.settings import TenancySettings
from tenancy.tables import HOST_CREDENTIALS, KEYS

HOST = {"os": "debian 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None}


@contextmanager
def another(settings: TenancySettings) -> Iterator[Database]:
    """The same database as another process has it: it has unwrapped nothing yet."""
    with closing(open_database(settings)) as opened:
        yield opened


def welcome(db: Database, host: Enrolled) -> bool:
    return Authenticator(db).authenticate(host.credential, "s").agent_id == host.agent_id


def test_a_new_data_key_seals_everything_and_the_old_one_is_forgotten(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], settings: TenancySettings
) -> None:
    token = create_token(db, tenant)[1]
    hosts = [enroll_host(token) for _ in range(3)]
    ((old, _), (index, _)) = sorted(list_keys(db), key=lambda found: found[0].purpose)
    made, brought = rotate(db)
    assert (brought.records, brought.broken, brought.forgotten) == (4, [], [old.key_id])
    keys = {key.key_id: records for key, records in list_keys(db)}
    # Four tokens and the index key.
    assert keys == {made: 5, index.key_id: 0}
    with another(settings) as fresh:
        assert all(welcome(fresh, host) for host in hosts)
        assert enroll(fresh, token, "web-9", HOST, "boot-1", "0.1.0").tenant_id == tenant


def test_more_records_than_fit_in_one_transaction_are_all_sealed_anew(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "_CHUNK", 3)
    token = create_token(db, tenant)[1]
    for _ in range(10):
        enroll_host(token)
    made, brought = rotate(db)
    assert brought.records == 11
    with db.reading() as session:
        assert set(session.execute(select(HOST_CREDENTIALS.c.sealed_with)).scalars()) == {made}


def test_a_rotation_that_was_cut_off_leaves_everything_readable_and_is_finished_later(
    db: Database,
    tenant: str,
    enroll_host: Callable[..., Enrolled],
    settings: TenancySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = create_token(db, tenant)[1]
    host = enroll_host(token)
    with monkeypatch.context() as cut:
        cut.setattr(rotation, "reseal", lambda _db: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rotate(db)
    assert sorted(records for key, records in list_keys(db) if key.purpose == "data") == [0, 3]
    with another(settings) as fresh:
        assert welcome(fresh, host)
        enroll(fresh, token, "web-2", HOST, "boot-1", "0.1.0")
        brought = reseal(fresh)
    assert brought.records == 2
    assert len(brought.forgotten) == 1
    assert [records for key, records in list_keys(db) if key.purpose == "data"] == [4]


def test_a_record_that_does_not_open_is_named_and_its_key_is_kept(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled]
) -> None:
    token = create_token(db, tenant)[1]
    good, bad = enroll_host(token), enroll_host(token)
    with db.transaction() as session:
        theirs = select(HOST_CREDENTIALS.c.sealed).where(HOST_CREDENTIALS.c.agent_id == good.agent_id).scalar_subquery()
        session.execute(
            update(HOST_CREDENTIALS).where(HOST_CREDENTIALS.c.agent_id == bad.agent_id).values(sealed=theirs)
        )
    _, brought = rotate(db)
    assert (brought.records, brought.broken, brought.forgotten) == (2, [bad.agent_id], [])
    assert [records for key, records in list_keys(db) if key.purpose == "data" and key.retired_at] == [1]
    with pytest.raises(UnusableKeyError, match="does not open"):
        rotate_index(db)
    assert welcome(db, good)
    assert welcome(db, bad)


def test_after_a_new_index_key_every_host_and_token_goes_on(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], settings: TenancySettings
) -> None:
    token = create_token(db, tenant)[1]
    host = enroll_host(token)
    with db.reading() as session:
        before = db.keys.index_key(session)
    with another(settings) as worker:
        authenticator = Authenticator(worker)
        authenticator.authenticate(host.credential, "s")
        made, records = rotate_index(db)
        assert records == 2
        # Before it has polled, and after.
        assert authenticator.authenticate(host.credential, "s").agent_id == host.agent_id
        assert authenticator.authenticate(enroll_host(token).credential, "s")
        authenticator.poll()
        assert authenticator.authenticate(host.credential, "s").agent_id == host.agent_id
        assert authenticator.authenticate_cached(host.credential) is not None
    with db.reading() as session:
        assert db.keys.index_key(session) != before
        indexes = select(KEYS.c.key_id).where(KEYS.c.purpose == "index")
        assert list(session.execute(indexes).scalars()) == [made]


def test_no_worker_refuses_a_host_and_no_enrollment_is_lost_while_keys_rotate(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], settings: TenancySettings
) -> None:
    token = create_token(db, tenant)[1]
    hosts = [enroll_host(token) for _ in range(5)]
    done = threading.Event()

    def ask() -> list[object]:
        with another(settings) as worker:
            authenticator, answers = Authenticator(worker), list[object]()
            while not done.is_set():
                for host in hosts:
                    try:
                        authenticator.authenticate(host.credential, "s")
                    except Problem as problem:
                        answers.append(problem)
                authenticator.poll()
            return answers

    def grow() -> list[Enrolled]:
        with another(settings) as worker:
            made = []
            while not done.is_set():
                made.append(enroll(worker, token, "grown", HOST, "boot-1", "0.1.0"))
            return made

    with ThreadPoolExecutor(3) as pool:
        asking, growing = [pool.submit(ask) for _ in range(2)], pool.submit(grow)
        try:
            for _ in range(5):
                rotate(db)
                rotate_index(db)
        finally:
            done.set()
        refused = [answer for one in asking for answer in one.result(60)]
        grown = growing.result(60)
    assert refused == []
    assert len(grown) > 0
    with another(settings) as fresh:
        authenticator = Authenticator(fresh)
        for host in [*hosts, *grown]:
            assert authenticator.authenticate(host.credential, "s").agent_id == host.agent_id
    reseal(db)
    with db.reading() as session:
        current = db.keys.current(session, "data").key_id
        others = select(func.count()).select_from(HOST_CREDENTIALS).where(HOST_CREDENTIALS.c.sealed_with != current)
        assert session.execute(others).scalar_one() == 0


def test_two_who_rotate_at_once_leave_one_current_key_that_opens_everything(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], settings: TenancySettings
) -> None:
    host = enroll_host(create_token(db, tenant)[1])

    def one(_number: int) -> None:
        with another(settings) as mine:
            rotate(mine)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    reseal(db)
    keys = list_keys(db)
    assert sorted(key.purpose for key, _ in keys) == ["data", "index"]
    with another(settings) as fresh:
        assert welcome(fresh, host)


def test_rotations_are_on_a_chain_of_their_own_that_verifies(db: Database, tenant: str) -> None:
    create_token(db, tenant)
    rotate(db)
    rotate_index(db)
    head, records = read_chain(db, CHAIN)
    assert [record.content["act"] for record in records] == ["keys.rotate", "keys.reseal", "keys.rotate_index"]
    assert records[0].content["detail"]["wrapped_by"] == "file"
    assert verify_chain(CHAIN, head, records, []) is None
    shown = "".join(record.body for record in records)
    for key in db.keys._plain.values():
        assert key.hex() not in shown
