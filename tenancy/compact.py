"""Bytes of deleted rows: a database keeps them in free pages and logs until it is made anew."""

from __future__ import annotations

import time
from typing import Final

from sqlalchemy import text

from tenancy.database import Database
from tenancy.tables import SCHEMA

_PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 0.1


class NotCompactError(Exception):
    """Somebody reads an old state of the database, so its bytes are still there."""


def compact(db: Database) -> None:
    """Rewrite the database without what was deleted; the others wait for as long as that takes, seconds at most.

    On PostgreSQL the server's own write-ahead log and backups keep old bytes until they are recycled.

    Raises:
        NotCompactError: a reader did not come to an end.
    """
    if db.dialect == "postgresql":
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET statement_timeout = 0"))
            try:
                for table in SCHEMA.sorted_tables:
                    connection.execute(text(f'VACUUM (FULL) "{table.name}"'))
            finally:
                connection.execute(text("RESET statement_timeout"))
        return
    deadline = time.monotonic() + _PATIENCE_S
    # A connection below SQLAlchemy: neither may run inside a transaction.
    raw = db.engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute("VACUUM")
        while True:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            answer = cursor.fetchone()
            if answer is not None and not answer[0]:
                return
            if time.monotonic() > deadline:
                raise NotCompactError("a reader holds an old state of the control database")
            time.sleep(_PAUSE_S)
    finally:
        raw.close()
