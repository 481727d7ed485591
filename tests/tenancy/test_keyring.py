"""Keys in the database, and what they seal."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Table, delete, insert, select, text, update

from tenancy.credentials import Authenticator
from tenancy.database import Database, open_database
from tenancy.enrollment import Enrolled, create_token
from tenancy.keys import UnusableKeyError, ensure_key, load_key, print_of
from tenancy.rotation import rotate_index
from tenancy.sealed import credential_context, token_context
from tenancy.settings import TenancySettings
from tenancy.tables import ENROLLMENT_TOKENS, HOST_CREDENTIALS, HOSTS, KEY_PRINTS, KEYS
from tenancy.tokens import index_of, mint


def sealed_of(db: Database, table: Table) -> str:
    with db.reading() as session:
        return str(session.execute(select(table.c.sealed)).scalar_one())


def opened(db: Database, sealed: str, context: dict[str, str]) -> str:
    with db.reading() as session:
        return db.keys.open(session, sealed, context)


def flip(text_: str, at: int) -> str:
    """Change one bit of base64."""
    raw = bytearray(base64.b64decode(text_))
    raw[at] ^= 1
    return base64.b64encode(raw).decode()


def test_tokens_are_sealed_and_open_only_where_they_belong(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled]
) -> None:
    record, token = create_token(db, tenant)
    host = enroll_host(token)
    sealed, other = sealed_of(db, ENROLLMENT_TOKENS), sealed_of(db, HOST_CREDENTIALS)
    assert opened(db, sealed, token_context(record.token_id)) == token
    assert opened(db, other, credential_context(host.agent_id)) == host.credential
    for context in (token_context("tok_other"), credential_context(record.token_id), credential_context(host.agent_id)):
        with pytest.raises(UnusableKeyError, match="does not open"):
            opened(db, sealed, context)


def test_neither_the_tokens_nor_any_key_stand_in_the_database(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled]
) -> None:
    token = create_token(db, tenant)[1]
    credential = enroll_host(token).credential
    keys = list(db.keys._plain.values())
    assert len(keys) == 2
    with db.reading() as session:
        for table in (ENROLLMENT_TOKENS, HOST_CREDENTIALS, HOSTS, KEYS, KEY_PRINTS):
            stored = repr(session.execute(select(table)).all())
            for secret in (token[8:-10], credential[8:-10]):
                assert secret not in stored
            for key in keys:
                assert key.hex() not in stored
                assert base64.b64encode(key).decode() not in stored


@pytest.mark.parametrize("at", [0, 12, 20, -1])
def test_a_sealed_record_with_a_changed_bit_is_refused(db: Database, tenant: str, at: int) -> None:
    record, _ = create_token(db, tenant)
    version, key_id, blob = sealed_of(db, ENROLLMENT_TOKENS).split(".")
    with pytest.raises(UnusableKeyError, match="it was changed"):
        opened(db, f"{version}.{key_id}.{flip(blob, at)}", token_context(record.token_id))


@pytest.mark.parametrize(
    "sealed", ["", "1", "1.key_unknown.AAAA", "9.{key}.{blob}", "1.{key}.", "1.{key}.?", "1.{key}.AAAA"]
)
def test_what_is_no_sealed_record_is_refused(db: Database, tenant: str, sealed: str) -> None:
    record, _ = create_token(db, tenant)
    _, key, blob = sealed_of(db, ENROLLMENT_TOKENS).split(".")
    with pytest.raises(UnusableKeyError):
        opened(db, sealed.format(key=key, blob=blob), token_context(record.token_id))


@pytest.mark.parametrize("purpose", ["data", "index"])
def test_a_changed_wrapped_key_is_refused(db: Database, settings: TenancySettings, purpose: str) -> None:
    db.keys.prepare()
    with db.transaction() as session:
        wrapped = session.execute(select(KEYS.c.wrapped).where(KEYS.c.purpose == purpose)).scalar_one()
        session.execute(update(KEYS).where(KEYS.c.purpose == purpose).values(wrapped=flip(wrapped, 14)))
    again = open_database(settings)
    try:
        with pytest.raises(UnusableKeyError):
            again.keys.prepare()
    finally:
        again.close()


def test_a_wrapped_key_under_another_name_is_refused(db: Database, settings: TenancySettings) -> None:
    db.keys.prepare()
    with db.transaction() as session:
        session.execute(update(KEYS).where(KEYS.c.purpose == "data").values(key_id="key_another"))
        session.execute(update(KEYS).where(KEYS.c.purpose == "index").values(wrapped_by="key_another"))
    again = open_database(settings)
    try:
        with pytest.raises(UnusableKeyError, match="data keys were made with"):
            again.keys.prepare()
    finally:
        again.close()


def test_there_is_never_a_second_current_key(db: Database) -> None:
    db.keys.prepare()
    with db.reading() as session:
        key = db.keys.current(session, "data")
    with pytest.raises(Exception, match=r"(?i)unique"), db.transaction() as session:
        session.execute(insert(KEYS).values(**vars(key) | {"key_id": "key_second"}))


@pytest.fixture
def older(db: Database, tenant: str, enroll_host: Callable[..., Enrolled]) -> dict[str, Any]:
    """A database as kaimon 0.1 left it: tokens indexed with the key file's own bytes, and nothing sealed."""
    token = create_token(db, tenant)[1]
    host = enroll_host(token)
    path = db.settings.token_key_path
    path.unlink()
    ensure_key(path)
    key = load_key(path)
    with db.transaction() as session:
        session.execute(delete(KEYS))
        session.execute(insert(KEY_PRINTS).values(name="token", print=print_of(key)))
        for table, secret in ((ENROLLMENT_TOKENS, token), (HOST_CREDENTIALS, host.credential)):
            values = {"token_hmac": index_of(key, secret), "sealed": None, "sealed_with": None}
            session.execute(update(table).values(values))
    db.keys._plain.clear()
    return {"token": token, "host": host, "key": key}


def test_the_tokens_of_an_older_kaimon_go_on(
    db: Database, older: dict[str, Any], enroll_host: Callable[..., Enrolled]
) -> None:
    authenticator = Authenticator(db)
    assert authenticator.authenticate(older["host"].credential, "s").agent_id == older["host"].agent_id
    assert enroll_host(older["token"]).tenant_id == "acme"
    with db.reading() as session:
        assert db.keys.index_key(session) == older["key"]


def test_a_credential_of_an_older_kaimon_is_sealed_when_it_is_used(db: Database, older: dict[str, Any]) -> None:
    host = older["host"]
    Authenticator(db).authenticate(host.credential, "s")
    assert opened(db, sealed_of(db, HOST_CREDENTIALS), credential_context(host.agent_id)) == host.credential


def test_the_index_key_is_not_changed_while_a_live_token_would_be_lost(db: Database, older: dict[str, Any]) -> None:
    with pytest.raises(UnusableKeyError, match="2 live tokens"):
        rotate_index(db)
    Authenticator(db).authenticate(older["host"].credential, "s")
    with pytest.raises(UnusableKeyError, match="1 live tokens"):
        rotate_index(db)
    with db.transaction() as session:
        session.execute(text("UPDATE enrollment_tokens SET max_uses = uses"))
    rotate_index(db)
    assert Authenticator(db).authenticate(older["host"].credential, "s").agent_id == older["host"].agent_id


def test_a_replaced_key_file_of_an_older_kaimon_is_refused(db: Database, older: dict[str, Any]) -> None:
    db.settings.token_key_path.unlink()
    ensure_key(db.settings.token_key_path)
    with pytest.raises(UnusableKeyError, match="is not the key"):
        db.keys.prepare()
    assert mint("hst") != older["token"]
