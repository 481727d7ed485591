"""The control database: opened, migrated, and used one transaction at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from kaimon.base.clock import Clock, utc_now
from tenancy.keyring import Keyring
from tenancy.migrate import migrate
from tenancy.settings import TenancySettings

BUSY_TIMEOUT_S: Final = 10.0
"""How long a SQLite writer waits for another; transactions here take milliseconds."""

_READING: Final[dict[str, dict[str, Any]]] = {
    "sqlite": {"kaimon_reading": True},
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}
"""What makes a transaction read from one snapshot."""


class Database:
    """One control database: its engine, its clock and its keys. Safe to share among threads."""

    def __init__(self, engine: Engine, settings: TenancySettings, clock: Clock = utc_now) -> None:
        """Take an engine made by `make_engine`."""
        self.engine = engine
        self.settings = settings
        self.clock = clock

    @cached_property
    def keys(self) -> Keyring:
        """The keys that seal and index tokens, as far as this process has unwrapped them."""
        return Keyring(self)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect.name

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Read and write; all or nothing. On SQLite it takes the one write lock at its beginning."""
        with Session(self.engine) as session, session.begin():
            # A session would begin at its first statement: what the caller reads before, such as the time, must
            # already be under the lock.
            session.connection()
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Read from one snapshot; on SQLite it neither waits for writers nor holds them up."""
        with Session(self.engine.execution_options(**_READING[self.dialect])) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def open_database(settings: TenancySettings | None = None, clock: Clock = utc_now) -> Database:
    """Open the control database, made and migrated to this version's schema; several processes may do so at once.

    Args:
        settings: where it is; from the environment if not given.
        clock: what time it is for tokens and leases.

    Raises:
        tenancy.migrate.NewerDatabaseError: a newer kaimon has migrated it.
        kaimon.base.aws.AwsError: its URL or password is a reference to a secret that cannot be read.
    """
    settings = settings or TenancySettings()
    url = settings.control_url
    engine = make_engine(url, settings.database_timeout_s)
    try:
        migrate(engine, url)
    except BaseException:
        engine.dispose()
        raise
    return Database(engine, settings, clock)


def make_engine(url: URL, timeout_s: float = 10.0) -> Engine:
    """Return an engine whose errors never show parameters, and on SQLite whose transactions begin as they should.

    On PostgreSQL nothing takes longer than `timeout_s`, and a server that does not answer is an error soon after.
    """
    if url.get_backend_name() != "sqlite":
        from tenancy.patience import connect

        engine = create_engine(url, hide_parameters=True, pool_pre_ping=True, pool_timeout=timeout_s)
        event.listen(engine, "do_connect", lambda _dialect, _record, args, options: connect(args, options, timeout_s))
        return engine
    # Read and write, never create: a file that went away under a running process must not come back empty.
    file = f"file:{quote(str(url.database))}?mode=rw"
    engine = create_engine(
        url,
        hide_parameters=True,
        creator=lambda: sqlite3.connect(file, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False),
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def plainly(error: DBAPIError) -> str:
    """Return what the driver said, in one line, without where to read more about it."""
    return " ".join(str(error.orig).split())


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions late and on its own; here BEGIN is ours.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    # FULL: a fence or a revocation that was answered must survive a power cut, or a number would be given twice.
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("kaimon_reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
