"""The keys of one control database: data keys that seal, and the key that indexes tokens, itself sealed.

Each key is a row. A data key is there in wrapped form only, and is unwrapped once a process, by KMS or by the key file;
the index key is sealed under a data key. What a process has unwrapped it keeps, so it goes on when KMS is away.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidTag
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from tenancy.keys import KEY_BYTES, KeyFileError, UnusableKeyError, load_key, print_of
from tenancy.metadata import insert_into, select_record
from tenancy.roots import Context, Wrapped, decrypt, encrypt, generate, unwrap
from tenancy.tables import KEY_PRINTS, KEYS

if TYPE_CHECKING:
    from tenancy.database import Database

DATA: Final = "data"
INDEX: Final = "index"
_VERSION: Final = "1"
_TRIES: Final = 10


@dataclass(frozen=True)
class KeyRecord:
    """A key as it is stored: `wrapped_by` is `file`, a KMS key's ARN, or for an index key the data key's id."""

    key_id: str
    purpose: str
    wrapped_by: str
    wrapped: str
    created_at: datetime
    retired_at: datetime | None


@dataclass(frozen=True)
class Sealed:
    """A sealed secret, and under which data key."""

    text: str
    key_id: str


class Keyring:
    """One process's keys, unwrapped as they are needed. Thread-safe; shows none of them."""

    def __init__(self, db: Database) -> None:
        """Take nothing yet."""
        self._db = db
        self._lock = threading.Lock()
        self._plain: dict[str, bytes] = {}

    def prepare(self) -> None:
        """Have the current keys in memory, made if there are none: what follows in a transaction then waits for nobody.

        Raises:
            tenancy.keys.KeysAwayError: KMS does not answer.
            tenancy.keys.UnusableKeyError: a key cannot be unwrapped, or the key file is gone or another. A new key in
                its place would silently make every token unknown.
            sqlalchemy.exc.SQLAlchemyError: the database cannot be asked.
        """
        with self._db.reading() as session:
            made = {key.purpose: key for key in _current(session)}
        if made.keys() != {DATA, INDEX}:
            made = self._make(made)
        with self._db.reading() as session:
            for key in made.values():
                self._unwrapped(session, key)

    def index_key(self, session: Session, *, hold: bool = False) -> bytes:
        """Return the key of the tokens' HMAC as of this transaction.

        Args:
            session: of a reader or a writer.
            hold: for a writer who stores what it indexes: nobody changes the key until it ends.

        Raises:
            as `prepare` does.
        """
        return self._unwrapped(session, self.current(session, INDEX, hold=hold))

    def seal(self, session: Session, secret: str, context: Context) -> Sealed:
        """Return `secret` sealed under the current data key, which stays current until the transaction ends.

        Raises:
            as `prepare` does.
        """
        key = self.current(session, DATA, hold=True)
        blob = encrypt(self._unwrapped(session, key), secret.encode(), context | {"kaimon:key": key.key_id})
        return Sealed(f"{_VERSION}.{key.key_id}.{base64.b64encode(blob).decode()}", key.key_id)

    def open(self, session: Session, sealed: str, context: Context) -> str:
        """Return what was sealed in this context.

        Raises:
            tenancy.keys.UnusableKeyError: other bytes, another context, or a key that is gone; or as `prepare` does.
        """
        version, _, rest = sealed.partition(".")
        key_id, _, text = rest.partition(".")
        key = _find(session, key_id)
        if version != _VERSION or key is None:
            raise UnusableKeyError(f"a sealed record names version {version!r} and key {key_id!r}, which are unknown")
        plain = self._unwrapped(session, key)
        try:
            return decrypt(plain, base64.b64decode(text, validate=True), context | {"kaimon:key": key_id}).decode()
        except (InvalidTag, binascii.Error) as error:
            raise UnusableKeyError(f"a sealed record does not open with key {key_id}: it was changed") from error

    def current(self, session: Session, purpose: str, *, hold: bool = False, change: bool = False) -> KeyRecord:
        """Return the key in use.

        Until the transaction ends, with `hold` nobody retires it, with `change` nobody even stores anything with it.
        Whoever wants both purposes takes the index key first: two who hold one each would wait for ever.
        """
        wanted = select_record(KeyRecord, KEYS).where(KEYS.c.purpose == purpose, KEYS.c.retired_at.is_(None))
        # Whoever waited on PostgreSQL for a rotation finds the old row retired, and the new one on another look.
        if hold or change:
            wanted = wanted.with_for_update(read=not change)
        for _ in range(_TRIES):
            row = session.execute(wanted).first()
            if row is not None:
                return KeyRecord(*row)
        raise UnusableKeyError(f"there is no current {purpose} key")

    def new_data_key(self, *, new_file: bool = False) -> KeyRecord:
        """Return a new data key, wrapped by what the settings say, that is stored nowhere yet.

        Raises:
            as `prepare` does.
        """
        key_id = f"key_{secrets.token_hex(8)}"
        plain, wrapped = generate(self._db.settings, _data_context(key_id), new_file=new_file)
        self._keep(key_id, plain)
        text = base64.b64encode(wrapped.blob).decode()
        return KeyRecord(key_id, DATA, wrapped.by, text, self._db.clock(), None)

    def new_index_key(self, data_key: KeyRecord, session: Session, plain: bytes | None = None) -> KeyRecord:
        """Return an index key, new or given, sealed under a data key, that is stored nowhere yet."""
        key_id = f"key_{secrets.token_hex(8)}"
        plain = plain or secrets.token_bytes(KEY_BYTES)
        self._keep(key_id, plain)
        return KeyRecord(
            key_id, INDEX, data_key.key_id, self._wrap_index(session, data_key, key_id, plain), self._db.clock(), None
        )

    def rewrap_index(self, session: Session, key: KeyRecord, data_key: KeyRecord) -> str:
        """Return the wrapped form of an index key under another data key."""
        return self._wrap_index(session, data_key, key.key_id, self._unwrapped(session, key))

    def _wrap_index(self, session: Session, data_key: KeyRecord, key_id: str, plain: bytes) -> str:
        blob = encrypt(self._unwrapped(session, data_key), plain, _index_context(key_id, data_key.key_id))
        return base64.b64encode(blob).decode()

    def _make(self, made: dict[str, KeyRecord]) -> dict[str, KeyRecord]:
        """Make what is missing; of processes that race to do so one wins, and all use its keys."""
        with self._db.reading() as session:
            legacy = session.execute(select(KEY_PRINTS.c.print).where(KEY_PRINTS.c.name == "token")).scalar()
        data_key = made.get(DATA) or self.new_data_key(new_file=legacy is None)
        index = None if legacy is None else self._legacy_index_key(str(legacy))
        with self._db.transaction() as session:
            _insert_first(session, self._db.dialect, data_key)
            data_key = self.current(session, DATA)
            _insert_first(session, self._db.dialect, self.new_index_key(data_key, session, index))
            return {DATA: data_key, INDEX: self.current(session, INDEX)}

    def _legacy_index_key(self, expected: str) -> bytes:
        """Return the bytes of the key file, with which kaimon 0.1 indexed tokens."""
        path = self._db.settings.token_key_path
        key = load_key(path)
        if print_of(key) != expected:
            raise KeyFileError(f"{path} is not the key that this database's tokens were made with")
        return key

    def _unwrapped(self, session: Session, key: KeyRecord) -> bytes:
        with self._lock:
            known = self._plain.get(key.key_id)
        if known is not None:
            return known
        blob = _decoded(key)
        if key.purpose == DATA:
            plain = unwrap(self._db.settings, Wrapped(key.wrapped_by, blob), _data_context(key.key_id))
        else:
            data_key = _find(session, key.wrapped_by)
            if data_key is None:
                raise UnusableKeyError(f"key {key.key_id} is sealed under {key.wrapped_by}, which is gone")
            try:
                plain = decrypt(self._unwrapped(session, data_key), blob, _index_context(key.key_id, data_key.key_id))
            except InvalidTag as error:
                raise UnusableKeyError(f"index key {key.key_id} does not open: it was changed") from error
        self._keep(key.key_id, plain)
        return plain

    def _keep(self, key_id: str, plain: bytes) -> None:
        with self._lock:
            self._plain[key_id] = plain


def insert_key(session: Session, key: KeyRecord) -> None:
    """Store a key."""
    session.execute(insert(KEYS).values(**vars(key)))


def _insert_first(session: Session, dialect: str, key: KeyRecord) -> None:
    """Store a key unless another of its purpose is current."""
    session.execute(insert_into(KEYS, dialect).values(**vars(key)).on_conflict_do_nothing())


def _current(session: Session) -> list[KeyRecord]:
    rows: Any = session.execute(select_record(KeyRecord, KEYS).where(KEYS.c.retired_at.is_(None)))
    return [KeyRecord(*row) for row in rows]


def _find(session: Session, key_id: str) -> KeyRecord | None:
    row = session.execute(select_record(KeyRecord, KEYS).where(KEYS.c.key_id == key_id)).first()
    return None if row is None else KeyRecord(*row)


def _decoded(key: KeyRecord) -> bytes:
    try:
        return base64.b64decode(key.wrapped, validate=True)
    except binascii.Error as error:
        raise UnusableKeyError(f"key {key.key_id} is not stored as it was: it was changed") from error


def _data_context(key_id: str) -> Context:
    return {"kaimon:use": "data-key", "kaimon:key": key_id}


def _index_context(key_id: str, data_key: str) -> Context:
    return {"kaimon:use": "index-key", "kaimon:key": key_id, "kaimon:data-key": data_key}
