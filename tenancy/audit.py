"""The audit chain: one a tenant, of control-plane acts, each record bound to the one before it by digest.

A record is canonical JSON (RFC 8785) that names the digest of its predecessor; its own digest is the SHA-256 of that
text. It holds ids, counts and times only: who a `prs_…` is stands in `people`, so that an erasure leaves every chain
verifiable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import rfc8785
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from kaimon.base.acting import actor
from tenancy.database import Database
from tenancy.metadata import insert_into, select_record
from tenancy.tables import AUDIT_HEADS, AUDIT_RECORDS

VERSION: Final = 1
CHAIN: Final = "_kaimon"
"""The chain of acts that are no tenant's; no tenant's id begins with `_`."""
GENESIS: Final = "0" * 64
"""What the first record of a chain names as its predecessor."""


@dataclass(frozen=True)
class AuditRecord:
    """A record as it is stored: `body` is the canonical JSON, `digest` its SHA-256 in hex."""

    chain: str
    seq: int
    body: str
    digest: str

    @property
    def content(self) -> dict[str, Any]:
        """The record's fields; empty if the body is not a JSON object."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Head:
    """How far a chain goes."""

    chain: str
    seq: int
    digest: str


def append(db: Database, session: Session, tenant_id: str, act: str, subject: str, **detail: Any) -> None:
    """Add a record to a tenant's chain in the transaction of the act itself: there is no one without the other.

    Args:
        db: the control database.
        session: the transaction that acts; it holds the chain until it ends.
        tenant_id: whose chain.
        act: what was done, `noun.verb`.
        subject: the id of what it was done to.
        detail: ids, counts and times; never a name, an address or a text that somebody wrote.
    """
    heads = AUDIT_HEADS
    begin = insert_into(heads, db.dialect).values(chain=tenant_id, seq=0, digest=GENESIS).on_conflict_do_nothing()
    session.execute(begin)
    mine = heads.c.chain == tenant_id
    head = session.execute(select(heads.c.seq, heads.c.digest).where(mine).with_for_update()).one()
    who = actor()
    content = {
        "v": VERSION,
        "chain": tenant_id,
        "seq": head.seq + 1,
        "previous": head.digest,
        "at": db.clock().isoformat(timespec="microseconds"),
        "actor": who.who,
        "request_id": who.request_id,
        "act": act,
        "subject": subject,
        "detail": detail,
    }
    body = rfc8785.dumps(content)
    digest = digest_of(body)
    record = {"chain": tenant_id, "seq": head.seq + 1, "body": body.decode(), "digest": digest}
    session.execute(insert(AUDIT_RECORDS).values(**record))
    session.execute(update(heads).where(mine).values(seq=head.seq + 1, digest=digest))


def digest_of(body: bytes) -> str:
    """Return what the next record names as its predecessor."""
    return hashlib.sha256(body).hexdigest()


def heads_of(db: Database) -> list[Head]:
    """Return how far each chain goes, by chain."""
    with db.reading() as session:
        return [Head(*row) for row in session.execute(select_record(Head, AUDIT_HEADS).order_by(AUDIT_HEADS.c.chain))]


def read_chain(db: Database, chain: str) -> tuple[Head | None, list[AuditRecord]]:
    """Return a chain's head and its records in order, as of one moment."""
    table = AUDIT_RECORDS
    with db.reading() as session:
        head = session.execute(select_record(Head, AUDIT_HEADS).where(AUDIT_HEADS.c.chain == chain)).first()
        rows = session.execute(select_record(AuditRecord, table).where(table.c.chain == chain).order_by(table.c.seq))
        return None if head is None else Head(*head), [AuditRecord(*row) for row in rows]


def read_after(db: Database, chain: str, seq: int) -> list[AuditRecord]:
    """Return a chain's records that come after a number, in order; one that is still being written is not there."""
    table = AUDIT_RECORDS
    later = select_record(AuditRecord, table).where(table.c.chain == chain, table.c.seq > seq).order_by(table.c.seq)
    with db.reading() as session:
        return [AuditRecord(*row) for row in session.execute(later)]


def chains_of(db: Database) -> Iterator[str]:
    """Yield every chain that has a head or a record."""
    with db.reading() as session:
        named = set(session.execute(select(AUDIT_HEADS.c.chain)).scalars())
        named |= set(session.execute(select(AUDIT_RECORDS.c.chain).distinct()).scalars())
    yield from sorted(named)
