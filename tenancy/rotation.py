"""Rotation: a new data key or a new index key, and everything that the old one sealed or indexed brought over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, and_, bindparam, delete, func, or_, select, update
from sqlalchemy.orm import Session

from kaimon.base.logs import get_logger
from tenancy.api_tables import API_KEYS
from tenancy.audit import CHAIN, append
from tenancy.database import Database
from tenancy.epochs import bump_epoch
from tenancy.keyring import DATA, INDEX, KeyRecord, insert_key
from tenancy.keys import UnusableKeyError
from tenancy.metadata import select_record
from tenancy.roots import FILE, Context
from tenancy.sealed import api_key_context, credential_context, token_context
from tenancy.tables import ENROLLMENT_TOKENS, HOST_CREDENTIALS, KEYS
from tenancy.tokens import index_of

_CHUNK: Final = 500


@dataclass(frozen=True)
class _Sealing:
    """A table with sealed records: which column names the record, and what its context is."""

    table: Table
    id_column: str
    context: Any

    def context_of(self, row: Any) -> Context:
        bound: Context = self.context(getattr(row, self.id_column))
        return bound


_SEALINGS: Final = (
    _Sealing(ENROLLMENT_TOKENS, "token_id", token_context),
    _Sealing(HOST_CREDENTIALS, "agent_id", credential_context),
    _Sealing(API_KEYS, "key_id", api_key_context),
)


@dataclass
class Brought:
    """What a rotation did: records brought over, those that do not open, and old data keys that are gone now."""

    records: int = 0
    broken: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)


def list_keys(db: Database) -> list[tuple[KeyRecord, int]]:
    """Return every key, oldest first, and how many records are sealed with it."""
    with db.reading() as session:
        keys = [KeyRecord(*row) for row in session.execute(select_record(KeyRecord, KEYS).order_by(KEYS.c.created_at))]
        return [(key, _sealed_with(session, key.key_id)) for key in keys]


def rotate(db: Database) -> tuple[str, Brought]:
    """Make a new data key, wrapped by what the settings say now; seal everything with it anew; forget the old one.

    Records that are not brought over yet stay readable, also if this is cut off: `reseal` goes on from there.

    Raises:
        tenancy.keys.UnusableKeyError: a key cannot be unwrapped or made; nothing was changed.
    """
    db.keys.prepare()
    with db.reading() as session:
        by_file = session.execute(select(KEYS.c.key_id).where(KEYS.c.wrapped_by == FILE)).first()
    new = db.keys.new_data_key(new_file=by_file is None)
    with db.transaction() as session:
        db.keys.current(session, INDEX, change=True)
        old = db.keys.current(session, DATA, change=True)
        _retire(db, session, old)
        insert_key(session, new)
        root = "file" if new.wrapped_by == FILE else "kms"
        append(db, session, CHAIN, "keys.rotate", new.key_id, previous=old.key_id, wrapped_by=root)
    return new.key_id, reseal(db)


def reseal(db: Database) -> Brought:
    """Seal with the current data key whatever another one sealed, in small transactions; forget keys without use.

    Raises:
        tenancy.keys.UnusableKeyError: the current key cannot be unwrapped.
    """
    db.keys.prepare()
    brought = Brought()
    for sealing in _SEALINGS:
        after: str | None = ""
        while after is not None:
            with db.transaction() as session:
                after = _reseal_some(db, session, sealing, after, brought)
    with db.transaction() as session:
        _rewrap_index(db, session)
        brought.forgotten = _forget(session)
        if brought.records or brought.forgotten or brought.broken:
            current = db.keys.current(session, DATA)
            detail = {"records": brought.records, "broken": len(brought.broken), "forgotten": brought.forgotten}
            append(db, session, CHAIN, "keys.reseal", current.key_id, **detail)
    return brought


def rotate_index(db: Database) -> tuple[str, int]:
    """Make a new index key and index every sealed token by it, at once; return its id and how many there were.

    Raises:
        tenancy.keys.UnusableKeyError: a token that still opens a door is not sealed, or does not open; nothing changed.
    """
    db.keys.prepare()
    with db.transaction() as session:
        old = db.keys.current(session, INDEX, change=True)
        data_key = db.keys.current(session, DATA, change=True)
        unsealed = session.execute(_count(HOST_CREDENTIALS, _unsealed_credential())).scalar_one()
        unsealed += session.execute(_count(ENROLLMENT_TOKENS, _unsealed_token(db))).scalar_one()
        if unsealed:
            raise UnusableKeyError(
                f"{unsealed} live tokens were made before there was sealing: a host's is sealed when it next sends to "
                "an ingest that has started since; revoke the others"
            )
        _retire(db, session, old)
        new = db.keys.new_index_key(data_key, session)
        insert_key(session, new)
        key = db.keys.index_key(session)
        records = sum(_reindex(db, session, sealing, key) for sealing in _SEALINGS)
        session.execute(delete(KEYS).where(KEYS.c.key_id == old.key_id))
        append(db, session, CHAIN, "keys.rotate_index", new.key_id, previous=old.key_id, records=records)
        # Workers forget what they know by the old key, and take up the new one.
        bump_epoch(session)
    return new.key_id, records


def _reseal_some(db: Database, session: Session, sealing: _Sealing, after: str, brought: Brought) -> str | None:
    """Bring the next records over; return where to go on, None at the end."""
    table = sealing.table
    db.keys.current(session, INDEX, change=True)
    current = db.keys.current(session, DATA, change=True)
    wanted = (table.c.sealed.is_not(None), table.c.sealed_with != current.key_id, table.c.token_hmac > after)
    columns = (table.c.token_hmac, table.c.sealed, table.c[sealing.id_column])
    rows = session.execute(select(*columns).where(*wanted).order_by(table.c.token_hmac).limit(_CHUNK)).all()
    if not rows:
        return None
    changes = []
    for row in rows:
        context = sealing.context_of(row)
        try:
            sealed = db.keys.seal(session, db.keys.open(session, row.sealed, context), context)
        except UnusableKeyError as error:
            brought.broken.append(context["kaimon:id"])
            get_logger(__name__).error("sealed_record_does_not_open", record=context["kaimon:id"], error=str(error))
            continue
        changes.append({"at": row.token_hmac, "new_sealed": sealed.text, "new_key": sealed.key_id})
    if changes:
        change = update(table).where(table.c.token_hmac == bindparam("at"))
        change = change.values(sealed=bindparam("new_sealed"), sealed_with=bindparam("new_key"))
        session.connection().execute(change, changes)
        brought.records += len(changes)
    return str(rows[-1].token_hmac)


def _rewrap_index(db: Database, session: Session) -> None:
    index = db.keys.current(session, INDEX, change=True)
    data_key = db.keys.current(session, DATA, change=True)
    if index.wrapped_by != data_key.key_id:
        wrapped = db.keys.rewrap_index(session, index, data_key)
        change = update(KEYS).where(KEYS.c.key_id == index.key_id)
        session.execute(change.values(wrapped=wrapped, wrapped_by=data_key.key_id))


def _forget(session: Session) -> list[str]:
    """Delete retired data keys that nothing is sealed with."""
    retired = select(KEYS.c.key_id).where(KEYS.c.purpose == DATA, KEYS.c.retired_at.is_not(None))
    gone = []
    for key_id in session.execute(retired.order_by(KEYS.c.key_id)).scalars().all():
        if not _sealed_with(session, key_id):
            session.execute(delete(KEYS).where(KEYS.c.key_id == key_id))
            gone.append(key_id)
    return gone


def _reindex(db: Database, session: Session, sealing: _Sealing, key: bytes) -> int:
    table = sealing.table
    columns = (table.c.token_hmac, table.c.sealed, table.c[sealing.id_column])
    changes = []
    for row in session.execute(select(*columns).where(table.c.sealed.is_not(None))).all():
        token = db.keys.open(session, row.sealed, sealing.context_of(row))
        changes.append({"at": row.token_hmac, "new": index_of(key, token)})
    if changes:
        change = update(table).where(table.c.token_hmac == bindparam("at")).values(token_hmac=bindparam("new"))
        session.connection().execute(change, changes)
    return len(changes)


def _retire(db: Database, session: Session, key: KeyRecord) -> None:
    session.execute(update(KEYS).where(KEYS.c.key_id == key.key_id).values(retired_at=db.clock()))


def _sealed_with(session: Session, key_id: str) -> int:
    records = sum(
        session.execute(_count(one.table, one.table.c.sealed_with == key_id)).scalar_one() for one in _SEALINGS
    )
    return int(records + session.execute(_count(KEYS, KEYS.c.wrapped_by == key_id)).scalar_one())


def _count(table: Table, condition: ColumnElement[bool]) -> Any:
    return select(func.count()).select_from(table).where(condition)


def _unsealed_credential() -> ColumnElement[bool]:
    return and_(HOST_CREDENTIALS.c.sealed.is_(None), HOST_CREDENTIALS.c.revoked_at.is_(None))


def _unsealed_token(db: Database) -> ColumnElement[bool]:
    tokens = ENROLLMENT_TOKENS
    return and_(
        tokens.c.sealed.is_(None),
        tokens.c.revoked_at.is_(None),
        or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > db.clock()),
        or_(tokens.c.max_uses.is_(None), tokens.c.uses < tokens.c.max_uses),
    )
