"""The control database: opened, migrated, and used one transaction at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from kaimon.base.clock import Clock, utc_now
from tenancy.keys import load_key
from tenancy.migrate import migrate
from tenancy.settings import TenancySettings

BUSY_TIMEOUT_S: Final = 10.0
"""How long a SQLite writer waits for another; transactions here take milliseconds."""


class Database:
    """One control database: its engine, its clock and the key that indexes tokens. Safe to share among threads."""

    def __init__(self, engine: Engine, settings: TenancySettings, clock: Clock = utc_now) -> None:
        """Take an engine made by `make_engine`."""
        self.engine = engine
        self.settings = settings
        self.clock = clock

    @cached_property
    def token_key(self) -> bytes:
        """The key of the tokens' HMAC.

        Raises:
            tenancy.keys.KeyFileError: the file cannot be trusted.
        """
        return load_key(self.settings.token_key_path)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect.name

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Read and write; all or nothing. On SQLite it takes the one write lock at its beginning."""
        with Session(self.engine) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Read from one snapshot; on SQLite it neither waits for writers nor holds them up."""
        with Session(self.engine.execution_options(kaimon_reading=True)) as session, session.begin():
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
    """
    settings = settings or TenancySettings()
    url = make_url(settings.control_url)
    engine = make_engine(url)
    try:
        migrate(engine, url)
    except BaseException:
        engine.dispose()
        raise
    return Database(engine, settings, clock)


def make_engine(url: URL) -> Engine:
    """Return an engine whose errors never show parameters, and on SQLite whose transactions begin as they should."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url, hide_parameters=True, pool_pre_ping=True)
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions late and on its own; here BEGIN is ours.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    # FULL: a fence or a revocation that was answered must survive a power cut, or a number would be given twice.
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("kaimon_reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
