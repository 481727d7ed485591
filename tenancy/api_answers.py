"""Answers that may be asked for again: a request with an Idempotency-Key acts once, however often it is sent.

An answer may hold a token, so it is kept under a key made of the API key and the Idempotency-Key, which lie nowhere
here: whoever reads the table reads nothing, and no rotation need bring it over.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import delete, select, update

from tenancy.api_tables import API_ANSWERS
from tenancy.database import Database
from tenancy.metadata import insert_into

KEPT: Final = timedelta(hours=24)
"""How long an answer may be asked for again."""
_NONCE_BYTES: Final = 12


class ReusedError(ValueError):
    """The same Idempotency-Key came with another request."""


class UnderWayError(ValueError):
    """A request with this Idempotency-Key has begun, and whether it ended nobody knows yet."""


@dataclass(frozen=True)
class Claim:
    """One use of an Idempotency-Key; `name` is its row, `key` encrypts what lies there."""

    name: str
    key: bytes


def claim_of(token: str, idempotency_key: str) -> Claim:
    """Return where an answer lies and what opens it, both told by what the sender alone has."""

    def derived(use: str) -> bytes:
        return hashlib.sha256(f"kaimon {use}\0{token}\0{idempotency_key}".encode()).digest()

    return Claim(derived("answer name").hex(), derived("answer key"))


def begin(db: Database, tenant_id: str, claim: Claim, request: bytes) -> bytes | None:
    """Begin a request; return the answer that it got before, None if it is to act now.

    Raises:
        ReusedError: the key was another request's.
        UnderWayError: it has begun and there is no answer: it runs, or was broken off.
    """
    table, now, digest = API_ANSWERS, db.clock(), hashlib.sha256(request).hexdigest()
    row = {"name": claim.name, "tenant_id": tenant_id, "request_digest": digest, "created_at": now}
    with db.transaction() as session:
        session.execute(delete(table).where(table.c.created_at <= now - KEPT))
        new = insert_into(table, db.dialect).values(**row).on_conflict_do_nothing()
        if session.execute(new.returning(table.c.name)).first() is not None:
            return None
        found = session.execute(select(table).where(table.c.name == claim.name)).one()
    if found.request_digest != digest:
        raise ReusedError("this Idempotency-Key was another request's")
    if found.answer is None:
        raise UnderWayError("a request with this Idempotency-Key has begun and has no answer yet")
    kept: bytes = found.answer
    return AESGCM(claim.key).decrypt(kept[:_NONCE_BYTES], kept[_NONCE_BYTES:], claim.name.encode())


def keep(db: Database, claim: Claim, answer: bytes) -> None:
    """Keep what was answered."""
    nonce = os.urandom(_NONCE_BYTES)
    sealed = nonce + AESGCM(claim.key).encrypt(nonce, answer, claim.name.encode())
    with db.transaction() as session:
        session.execute(update(API_ANSWERS).where(API_ANSWERS.c.name == claim.name).values(answer=sealed))


def forget(db: Database, claim: Claim) -> None:
    """Let a request that did nothing be sent again."""
    with db.transaction() as session:
        session.execute(delete(API_ANSWERS).where(API_ANSWERS.c.name == claim.name))
