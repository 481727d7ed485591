"""Bringing the control database to this version's schema, once, whoever comes first."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import mkstemp
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.engine import URL

from kaimon.base.logs import get_logger

_ADVISORY_LOCK: Final = 0x6B61696D6F6E
_ALEMBIC_IS_GLOBAL: Final = threading.Lock()
_VERSIONS: Final = Path(__file__).parent / "migrations" / "versions"


class NewerDatabaseError(Exception):
    """The database's schema is one that this version does not know."""


def migrate(engine: Engine, url: URL) -> None:
    """Migrate to head in one transaction; make the file and its folder where the database is a file.

    Raises:
        NewerDatabaseError: a newer version has migrated it; nothing was changed.
    """
    if url.get_backend_name() == "sqlite":
        _make_file(Path(str(url.database)))
    known = revisions()
    head = known[-1]
    if _look(engine) == head:
        return
    with _ALEMBIC_IS_GLOBAL, engine.begin() as connection, ExitStack() as stack:
        if engine.dialect.name == "postgresql":
            from tenancy.patience import patient

            stack.enter_context(patient(connection))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        current = current_revision(connection)
        if current == head:
            return
        if current is not None and current not in known:
            raise NewerDatabaseError(f"the control database is at revision {current}, unknown to this version")
        _upgrade(connection)
    get_logger(__name__).info("database_migrated", before=current, after=head)


def revisions() -> list[str]:
    """Return every revision that this version knows, oldest first: each file of a migration begins with its own.

    Without alembic: loading it costs half a second, and nearly every start finds nothing to migrate.
    """
    return sorted(file.name.partition("_")[0] for file in _VERSIONS.glob("[0-9]*_*.py"))


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "tenancy:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def current_revision(connection: Connection) -> str | None:
    """Return the schema's revision, None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _look(engine: Engine) -> str | None:
    """Return the revision without waiting for writers: nearly every start finds nothing to do."""
    with engine.execution_options(kaimon_reading=True).connect() as connection:
        return current_revision(connection)


def _make_file(file: Path) -> None:
    """Make an empty database, mode 0600 (its WAL inherits that) and in WAL mode, which lasts, if there is none.

    It is made under a name of its own and linked into place, for two reasons. Switching a file to WAL does not wait
    for others: of 1,200 openings of new files by 6 processes at once, 5 ended in "database is locked". And the file
    that is there must not be opened here: closing any descriptor of it drops all of this process's POSIX locks on it,
    SQLite's too; another process would then take itself for the last one, remove the WAL, and what this one commits
    from then on would be lost.
    """
    if file.exists():
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = mkstemp(prefix=f".{file.name}.", dir=file.parent)
    os.close(descriptor)
    try:
        with closing(sqlite3.connect(draft)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        os.link(draft, file)
    except FileExistsError:
        return
    finally:
        os.unlink(draft)  # noqa: PTH108 - mkstemp gives text
