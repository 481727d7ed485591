"""Keys of the API: shown once, kept sealed, refused at once; and answers that only their asker can have again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from kaimon.base.problems import Problem
from tenancy.api_answers import ReusedError, UnderWayError, begin, claim_of, forget, keep
from tenancy.api_keys import SCOPES, authenticate_key, create_api_key, list_api_keys, revoke_api_key, scopes_named
from tenancy.api_tables import API_ANSWERS, API_KEYS
from tenancy.audit import read_chain
from tenancy.database import Database
from tenancy.erasures import begin as begin_erasure
from tenancy.limits import SourceLimiter
from tenancy.rotation import rotate, rotate_index
from tenancy.tenants import create_tenant
from tenancy.tokens import mint, parse


def ask(db: Database, token: str, limiter: SourceLimiter | None = None) -> Any:
    return authenticate_key(db, token, "192.0.2.1", limiter or SourceLimiter())


def refusal(db: Database, token: str) -> str | None:
    with pytest.raises(Problem) as caught:
        ask(db, token)
    assert caught.value.status == 401
    return caught.value.detail


def test_a_key_is_known_by_what_it_may_and_nothing_kept_gives_it_away(db: Database, tenant: str) -> None:
    record, token = create_api_key(db, tenant, ["read:hosts", "write:*"], "for the wiki")
    assert parse(token, "api") == token
    assert record.scopes == ["read:hosts", "write:tokens", "write:team"]
    assert ask(db, token).key_id == record.key_id
    with db.reading() as session:
        kept = repr(session.execute(select(API_KEYS)).all())
    assert token[8:-4] not in kept
    assert record == list_api_keys(db, tenant)[0].__class__(
        **{**vars(list_api_keys(db, tenant)[0]), "last_used_at": None}
    )
    (made,) = [one for one in read_chain(db, tenant)[1] if one.content["act"] == "api_key.create"]
    assert made.content["subject"] == record.key_id
    assert "wiki" not in made.body


def test_a_key_that_is_revoked_expired_or_erased_is_refused_at_the_next_request(
    db: Database, tenant: str, clock: Any
) -> None:
    record, token = create_api_key(db, tenant, ["read:*"], expires_in=timedelta(days=1))
    revoke_api_key(db, tenant, record.key_id)
    assert refusal(db, token) == "the API key is revoked"
    revoke_api_key(db, tenant, record.key_id)
    acts = [one.content["act"] for one in read_chain(db, tenant)[1]]
    assert acts.count("api_key.revoke") == 1
    _, second = create_api_key(db, tenant, ["read:*"], expires_in=timedelta(days=1))
    assert ask(db, second)
    clock.move(86_400)
    assert refusal(db, second) == "the API key has expired"
    _, third = create_api_key(db, tenant, ["read:*"])
    begin_erasure(db, tenant, "asked for")
    assert refusal(db, third) == "the API key is revoked"


def test_another_tenants_key_cannot_be_revoked_or_listed(db: Database, tenant: str) -> None:
    create_tenant(db, "bolt")
    record, token = create_api_key(db, tenant, ["read:*"])
    with pytest.raises(ValueError, match="no key"):
        revoke_api_key(db, "bolt", record.key_id)
    assert list_api_keys(db, "bolt") == []
    assert ask(db, token)


def test_keys_outlive_rotations_of_what_seals_and_indexes_them(db: Database, tenant: str) -> None:
    _, token = create_api_key(db, tenant, ["read:*"])
    _, brought = rotate(db)
    assert brought.records == 1
    assert brought.broken == []
    assert rotate_index(db)[1] == 1
    assert ask(db, token).tenant_id == tenant


def test_unknown_keys_are_tried_at_a_limited_rate(db: Database, tenant: str) -> None:
    _, token = create_api_key(db, tenant, ["read:*"])
    limiter = SourceLimiter(burst=2, monotonic=lambda: 0.0)
    for _ in range(2):
        with pytest.raises(Problem, match=r"."):
            ask(db, mint("api"), limiter)
    with pytest.raises(Problem) as caught:
        ask(db, token, limiter)
    assert caught.value.status == 429
    assert refusal(db, mint("hst")) == "not an API key"


@pytest.mark.parametrize("words", [[], ["read"], ["read:everything"], ["*"], ["write:audit"], [":*"]])
def test_what_is_no_scope_makes_no_key(words: list[str]) -> None:
    with pytest.raises(ValueError, match="scope"):
        scopes_named(words)
    assert scopes_named(["read:*", "write:*"]) == list(SCOPES)


@pytest.mark.parametrize("days", [0, -1, 367])
def test_no_key_lives_for_ever(db: Database, tenant: str, days: int) -> None:
    with pytest.raises(ValueError, match="366 days"):
        create_api_key(db, tenant, ["read:*"], expires_in=timedelta(days=days))


def test_last_use_is_noted_and_not_at_every_request(db: Database, tenant: str, clock: Any) -> None:
    _, token = create_api_key(db, tenant, ["read:*"])
    first = clock()
    for _ in range(3):
        ask(db, token)
        clock.move(20)
    assert list_api_keys(db, tenant)[0].last_used_at == first
    ask(db, token)
    assert list_api_keys(db, tenant)[0].last_used_at == clock()


def test_an_answer_is_had_again_by_its_asker_alone_until_it_is_too_old(db: Database, tenant: str, clock: Any) -> None:
    claim = claim_of("kmn_api_mine", "order-1")
    assert begin(db, tenant, claim, b"POST") is None
    with pytest.raises(UnderWayError):
        begin(db, tenant, claim, b"POST")
    keep(db, claim, b"kmn_enr_secret")
    assert begin(db, tenant, claim, b"POST") == b"kmn_enr_secret"
    with pytest.raises(ReusedError):
        begin(db, tenant, claim, b"POST other")
    assert begin(db, tenant, claim_of("kmn_api_theirs", "order-1"), b"POST") is None
    with db.reading() as session:
        assert b"secret" not in repr(session.execute(select(API_ANSWERS)).all()).encode()
    forget(db, claim)
    assert begin(db, tenant, claim, b"POST other") is None
    clock.move(86_400)
    assert begin(db, tenant, claim, b"POST") is None
    with db.reading() as session:
        assert session.execute(text("SELECT count(*) FROM api_answers")).scalar_one() == 1
