"""The audit chain: every act is on it, and whatever is done to a record afterwards is named."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, text, update

from kaimon.base.acting import Actor, acting_as
from tenancy.alarms import CLONE, raise_alarm
from tenancy.audit import GENESIS, AuditRecord, Head, append, digest_of, heads_of, read_chain
from tenancy.audit_heads import BadHeadError, SignedHead, object_key, read_head, sign, signing_key
from tenancy.audit_verify import verify_chain
from tenancy.credentials import Authenticator
from tenancy.database import Database
from tenancy.enrollment import Enrolled, create_token, enroll, revoke_token
from tenancy.people import forget_name, names, person_of
from tenancy.tables import AUDIT_RECORDS, HOST_CREDENTIALS
from tenancy.tenants import create_tenant, set_subscription

RACE = """
import os
from pathlib import Path
from tenancy.database import open_database
from tenancy.enrollment import create_token
from tenancy.settings import TenancySettings

def work(home):
    db = open_database(TenancySettings(home=Path(home)))
    for _ in range(10):
        create_token(db, "acme", "l")
    db.close()
"""


def fault(db: Database, *signed: SignedHead) -> tuple[int, str] | None:
    head, records = read_chain(db, "acme")
    found = verify_chain("acme", head, records, signed)
    return None if found is None else (found.seq, found.why)


def records_of(db: Database, session: Any, count: int) -> None:
    for number in range(count):
        append(db, session, "acme", "test.act", f"id-{number}", number=number)


@pytest.fixture
def five(db: Database) -> Database:
    with db.transaction() as session:
        records_of(db, session, 5)
    return db


def signed_now(db: Database) -> SignedHead:
    key = signing_key(db.settings.audit_key_path)
    head = next(head for head in heads_of(db) if head.chain == "acme")
    return read_head(object_key(head), sign(head, key, db.clock()), key.public_key())


def test_every_act_of_the_control_plane_is_on_its_tenants_chain(db: Database) -> None:
    host = {"os": "debian", "kernel": "6.1", "arch": "x86_64", "cloud": None}
    with acting_as(Actor("prs_1", "192.0.2.7", "req_1")):
        create_tenant(db, "acme", "Jane Doe's")
        record, token = create_token(db, "acme", "Jane's laptop", max_uses=2)
        enrolled = enroll(db, token, "janes-laptop", host, "b", "v")
        Authenticator(db).authenticate(enrolled.credential, "192.0.2.7")
        raise_alarm(db, "acme", CLONE, "s", enrolled.agent_id, {"loads": ["a", "b"]})
        set_subscription(db, "acme", "ended")
        revoke_token(db, "acme", record.token_id)
    create_tenant(db, "beta")
    head, records = read_chain(db, "acme")
    assert [record.content["act"] for record in records] == [
        "tenant.create", "token.create", "host.enroll", "credential.first_use", "alarm.raise", "subscription.change",
        "token.revoke",
    ]  # fmt: skip
    assert {(record.content["actor"], record.content["request_id"]) for record in records} == {("prs_1", "req_1")}
    assert head == Head("acme", 7, records[-1].digest)
    assert fault(db) is None
    whole = " ".join(record.body for record in records)
    for personal in ("ane", "192.0.2.7", token, enrolled.credential):
        assert personal not in whole


def test_an_act_that_fails_is_not_on_the_chain(db: Database, tenant: str) -> None:
    with pytest.raises(ValueError, match="no tenant"):
        set_subscription(db, "nobody", "ended")
    with pytest.raises(ValueError, match="exists"):
        create_tenant(db, tenant)
    assert [head.seq for head in heads_of(db)] == [1]


def test_a_credentials_first_use_is_on_the_chain_once_whoever_sees_it(
    db: Database, enroll_host: Callable[..., Enrolled]
) -> None:
    credential = enroll_host().credential
    for _ in range(3):
        Authenticator(db).authenticate(credential, "s")
    acts = [record.content["act"] for record in read_chain(db, "acme")[1]]
    assert acts.count("credential.first_use") == 1


def test_use_is_noted_by_the_poller_and_never_by_a_request(
    db: Database, enroll_host: Callable[..., Enrolled], seconds: Any, clock: Any
) -> None:
    credential = enroll_host().credential
    authenticator = Authenticator(db, monotonic=seconds)
    authenticator.authenticate(credential, "s")

    def last_used() -> Any:
        with db.reading() as session:
            return session.execute(select(HOST_CREDENTIALS.c.last_used_at)).scalar_one()

    for _ in range(3):
        assert authenticator.authenticate_cached(credential) is not None
    authenticator.keep_last_used()
    assert last_used() is None
    clock.move(90)
    seconds.now += 61
    authenticator.keep_last_used()
    assert last_used() == clock()
    clock.move(90)
    seconds.now += 61
    authenticator.keep_last_used()
    assert last_used() < clock(), "it was not used since"


def test_a_chain_that_was_left_alone_verifies(five: Database) -> None:
    assert fault(five, signed_now(five)) is None
    assert verify_chain("nobody", None, []) is None


def test_an_edited_record_is_named(five: Database) -> None:
    with five.transaction() as session:
        session.execute(text("UPDATE audit_records SET body = replace(body, 'id-2', 'id-9') WHERE seq = 3"))
    assert fault(five) == (3, "its contents are not those of its digest")


def test_a_deleted_record_is_named(five: Database) -> None:
    with five.transaction() as session:
        session.execute(delete(AUDIT_RECORDS).where(AUDIT_RECORDS.c.seq == 3))
    assert fault(five) == (3, "it is missing")


def test_swapped_records_are_named(five: Database) -> None:
    with five.transaction() as session:
        for now, then in ((2, 90), (4, 2), (90, 4)):
            session.execute(update(AUDIT_RECORDS).where(AUDIT_RECORDS.c.seq == now).values(seq=then))
    assert fault(five) == (2, "it was written for another place")


def test_a_chain_that_was_cut_short_is_named_by_its_head_and_without_it_by_a_signed_one(five: Database) -> None:
    witness = signed_now(five)
    with five.transaction() as session:
        session.execute(delete(AUDIT_RECORDS).where(AUDIT_RECORDS.c.seq > 3))
    assert fault(five) == (4, "it is missing: the chain went up to 5")
    with five.transaction() as session:
        session.execute(
            text("UPDATE audit_heads SET seq = 3, digest = (SELECT digest FROM audit_records WHERE seq = 3)")
        )
    assert fault(five) is None
    assert fault(five, witness) == (4, "it is missing: a signed head of 2026-03-01T12:00:00Z knows 5")
    with five.transaction() as session:
        session.execute(text("DELETE FROM audit_records"))
        session.execute(text("DELETE FROM audit_heads"))
    assert fault(five, witness) == (1, "it is missing: a signed head of 2026-03-01T12:00:00Z knows 5")


def test_a_chain_written_anew_from_some_record_on_is_named_by_a_signed_head(five: Database) -> None:
    witness = signed_now(five)
    _, records = read_chain(five, "acme")
    previous, forged = records[2].digest, records[:3]
    for record in records[3:]:
        body = rfc8785.dumps(record.content | {"previous": previous, "actor": "prs_somebody_else"})
        previous = digest_of(body)
        forged.append(replace(record, body=body.decode(), digest=previous))
    assert verify_chain("acme", Head("acme", 5, previous), forged) is None
    found = verify_chain("acme", Head("acme", 5, previous), forged, [witness])
    assert found is not None
    assert (found.seq, found.why) == (5, "it, or one before it, is not the one signed at 2026-03-01T12:00:00Z")


def test_a_record_of_another_chain_is_no_record_of_this_one(five: Database) -> None:
    with five.transaction() as session:
        append(five, session, "beta", "test.act", "x")
    head, records = read_chain(five, "beta")
    assert head is not None
    moved = verify_chain("acme", Head("acme", 1, head.digest), [replace(records[0], chain="acme")])
    assert moved is not None
    assert moved.why == "it was written for another place"


CHAIN = [
    AuditRecord("acme", seq, body, digest_of(body.encode()))
    for seq, body in enumerate([rfc8785.dumps({"chain": "acme", "seq": 1, "previous": GENESIS}).decode()], start=1)
]
for _seq in range(2, 9):
    _body = rfc8785.dumps({"chain": "acme", "seq": _seq, "previous": CHAIN[-1].digest}).decode()
    CHAIN.append(AuditRecord("acme", _seq, _body, digest_of(_body.encode())))


@settings(deadline=None)
@given(st.permutations(range(8)), st.integers(0, 8))
def test_no_order_but_the_right_one_verifies_and_the_first_bad_one_is_named(order: list[int], kept: int) -> None:
    """Whatever is left of the records, in whatever order the database gives their numbers."""
    left = [CHAIN[index] for index in order[:kept]]
    renumbered = [replace(record, seq=number) for number, record in enumerate(left, start=1)]
    head = Head("acme", 8, CHAIN[-1].digest)
    found = verify_chain("acme", head, renumbered)
    good = next((n for n, record in enumerate(left) if record != CHAIN[n]), len(left))
    if good == len(CHAIN):
        assert found is None
    else:
        assert found is not None
        assert found.seq == good + 1


def test_a_signed_head_that_was_touched_or_moved_is_refused(five: Database) -> None:
    key = signing_key(five.settings.audit_key_path)
    head = heads_of(five)[0]
    data = sign(head, key, five.clock())
    assert read_head(object_key(head), data, key.public_key()).head == head
    touched = json.loads(data)
    touched["head"]["seq"] = 4
    for name, bad in (
        (object_key(head), rfc8785.dumps(touched)),
        (object_key(replace(head, seq=4)), data),
        (object_key(head), data[:-9]),
        (object_key(head), b"[]"),
    ):
        with pytest.raises(BadHeadError):
            read_head(name, bad, key.public_key())


def test_racing_processes_write_one_unbroken_chain(
    db: Database, tenant: str, in_processes: Callable[..., list[str]]
) -> None:
    in_processes(RACE, 3, db.settings.home)
    assert fault(db) is None
    assert heads_of(db)[0].seq == 31


def test_two_transactions_at_once_take_turns(db: Database, tenant: str) -> None:
    started = threading.Event()

    def other() -> None:
        started.set()
        with db.transaction() as session:
            records_of(db, session, 3)

    with db.transaction() as session:
        records_of(db, session, 1)
        thread = threading.Thread(target=other)
        thread.start()
        assert started.wait(10)
        records_of(db, session, 1)
    thread.join(30)
    assert fault(db) is None
    assert heads_of(db)[0].seq == 6


def test_a_person_is_a_number_that_outlives_the_name(db: Database) -> None:
    jane = person_of(db, "login:jane")
    assert person_of(db, "login:jane") == jane
    assert names(db) == {jane: "login:jane"}
    forget_name(db, jane)
    forget_name(db, jane)
    assert names(db) == {}
    (record,) = read_chain(db, "_kaimon")[1]
    assert (record.content["act"], record.content["subject"]) == ("person.forget", jane)
    assert "login" not in record.body
    with pytest.raises(ValueError, match="no person"):
        forget_name(db, "prs_nobody")
    assert person_of(db, "login:jane") != jane
