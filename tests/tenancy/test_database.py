"""The control database: its file, its transactions, its migrations."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError

from tenancy.database import Database, open_database
from tenancy.migrate import NewerDatabaseError, _make_file, revisions
from tenancy.settings import TenancySettings
from tenancy.tables import EPOCHS, SCHEMA, TENANTS
from tenancy.tenants import create_tenant, get_tenant, list_tenants

SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
"""About the file, which is SQLite's."""
ROUNDS = 25
OPEN = """
import os
from pathlib import Path
import alembic.command
from tenancy.database import open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

def work(homes, rounds):
    for number in range(int(rounds)):
        barrier.wait(60)
        db = open_database(TenancySettings(home=Path(homes) / str(number)))
        db.keys.prepare()
        with db.reading() as session:
            key = db.keys.index_key(session)
        create_tenant(db, "t-" + key.hex()[:8] + str(os.getpid()))
        db.close()
"""


COME_AND_GO = """
from pathlib import Path
from tenancy.database import open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import list_tenants

def work(home):
    db = open_database(TenancySettings(home=Path(home)))
    for tenant in list_tenants(db):
        print(tenant.tenant_id)
    db.close()
"""


@SQLITE
def test_everything_is_made_for_its_owner_only(db: Database, settings: TenancySettings) -> None:
    create_tenant(db, "acme")
    assert settings.home.stat().st_mode & 0o777 == 0o700
    files = {path.name: path.stat().st_mode & 0o777 for path in settings.home.iterdir() if path.is_file()}
    assert files.keys() >= {"control.db", "control.db-wal"}
    assert set(files.values()) == {0o600}


@SQLITE
def test_the_database_is_durable_and_keeps_its_references(db: Database) -> None:
    with db.reading() as session:
        pragma = {name: session.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")}
        foreign_keys = session.execute(text("PRAGMA foreign_keys")).scalar()
    assert pragma == {"journal_mode": "wal", "synchronous": 2}
    assert foreign_keys == 1


def test_a_transaction_that_fails_leaves_nothing(db: Database, clock: Callable[[], object]) -> None:
    def half() -> None:
        new = {"tenant_id": "acme", "name": "Acme", "subscription": "trial", "created_at": clock()}
        with db.transaction() as session:
            session.execute(insert(TENANTS).values(**new))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        half()
    assert list_tenants(db) == []


def test_a_reader_neither_waits_for_a_writer_nor_sees_half_of_it(db: Database) -> None:
    with db.transaction() as writing:
        writing.execute(update(EPOCHS).values(value=7))
        with db.reading() as reading:
            assert reading.execute(select(EPOCHS.c.value)).scalar() == 0
    with db.reading() as reading:
        assert reading.execute(select(EPOCHS.c.value)).scalar() == 7


def test_a_reader_sees_one_moment_however_often_it_looks(db: Database) -> None:
    with db.reading() as reading:
        before = reading.execute(select(EPOCHS.c.value)).scalar()
        with db.transaction() as writing:
            writing.execute(update(EPOCHS).values(value=7))
        assert reading.execute(select(EPOCHS.c.value)).scalar() == before


def test_two_writers_take_turns(db: Database) -> None:
    started, order = threading.Event(), list[str]()

    def second() -> None:
        started.set()
        with db.transaction() as session:
            session.execute(update(EPOCHS).values(value=EPOCHS.c.value * 10))
            order.append("second")

    with db.transaction() as session:
        session.execute(update(EPOCHS).values(value=EPOCHS.c.value + 1))
        thread = threading.Thread(target=second)
        thread.start()
        assert started.wait(10)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    with db.reading() as reading:
        assert reading.execute(select(EPOCHS.c.value)).scalar() == 10


def test_processes_that_start_at_once_migrate_once_and_share_one_key(
    in_processes: Callable[..., list[str]], tmp_path: Path
) -> None:
    in_processes(OPEN, 4, tmp_path / "homes", ROUNDS)
    for number in range(ROUNDS):
        db = open_database(TenancySettings(home=tmp_path / "homes" / str(number)))
        made = [tenant.tenant_id for tenant in list_tenants(db)]
        assert len(made) == 4
        assert len({name[:10] for name in made}) == 1
        with db.reading() as session:
            assert session.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
            assert session.execute(text("SELECT count(*) FROM epochs")).scalar() == 1
        db.close()


@SQLITE
def test_looking_after_the_file_never_costs_a_process_its_locks(
    in_processes: Callable[..., list[str]], db: Database, settings: TenancySettings
) -> None:
    assert list_tenants(db) == []
    assert db.engine.pool.checkedin() == 1
    _make_file(settings.home / "control.db")
    assert in_processes(COME_AND_GO, 1, settings.home) == [""]
    create_tenant(db, "acme")
    assert in_processes(COME_AND_GO, 1, settings.home) == ["acme\n"]


def test_opening_again_neither_loses_anything_nor_waits_for_a_writer(db: Database, settings: TenancySettings) -> None:
    create_tenant(db, "acme")
    with db.transaction():
        again = open_database(settings)
        assert get_tenant(again, "acme") is not None
        again.close()


def test_a_schema_from_the_future_is_left_alone(db: Database, settings: TenancySettings) -> None:
    with db.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerDatabaseError, match="9999"):
        open_database(settings)
    with db.reading() as session:
        assert session.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(db: Database) -> None:
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SCHEMA) == []


def test_processes_that_start_at_once_migrate_an_empty_postgresql_once(
    in_processes: Callable[..., list[str]], postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = postgres.create()
    monkeypatch.setenv("KAIMON_DATABASE_URL", postgres.url(name))
    in_processes(OPEN, 4, tmp_path / "homes", 1)
    db = open_database(TenancySettings(home=tmp_path / "homes" / "0"))
    assert len(list_tenants(db)) == 4
    assert len({tenant.tenant_id[:10] for tenant in list_tenants(db)}) == 1
    with db.reading() as session:
        assert session.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
        assert session.execute(text("SELECT count(*) FROM epochs")).scalar() == 1
    db.close()
    postgres.drop(name)


def test_moments_on_postgresql_know_their_zone(postgres: Any, migrated: str) -> None:
    import psycopg

    with psycopg.connect(postgres.url(migrated)) as connection:
        kinds = connection.execute(
            "SELECT DISTINCT data_type FROM information_schema.columns "
            "WHERE table_schema = 'public' AND data_type LIKE 'timestamp%'"
        ).fetchall()
    assert kinds == [("timestamp with time zone",)]


@SQLITE
def test_a_database_that_went_away_does_not_come_back_empty(db: Database, settings: TenancySettings) -> None:
    create_tenant(db, "acme")
    db.close()
    for path in settings.home.glob("control.db*"):
        path.rename(path.with_name(f"gone-{path.name}"))
    with pytest.raises(DBAPIError):
        list_tenants(db)
    assert not (settings.home / "control.db").exists()


def test_a_database_error_shows_no_values(db: Database) -> None:
    with pytest.raises(DBAPIError) as failed, db.transaction() as session:
        session.execute(text("INSERT INTO nowhere VALUES (:value)"), {"value": "a-secret-value"})
    assert "a-secret-value" not in str(failed.value)


def test_a_naive_moment_is_refused(db: Database) -> None:
    from datetime import datetime

    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - the point
    with pytest.raises(Exception, match="without a time zone"), db.transaction() as session:
        session.execute(insert(TENANTS).values(tenant_id="acme", name="a", subscription="trial", created_at=naive))


def test_a_path_with_odd_signs_is_a_path(tmp_path: Path) -> None:
    settings = TenancySettings(home=tmp_path / "a b?c#d%41")
    db = open_database(settings)
    try:
        create_tenant(db, "acme")
        assert (settings.home / "control.db").is_file()
    finally:
        db.close()


def test_the_databases_password_shows_nowhere() -> None:
    settings = TenancySettings(database_url="postgresql://kaimon:hunter2@db/kaimon")
    assert "hunter2" not in repr(settings) + str(settings.model_dump()) + str(settings.control_url) + repr(
        settings.control_url
    )
    assert settings.control_url.password == "hunter2"


def _config() -> object:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "tenancy:migrations")
    return config


def test_the_revisions_told_from_file_names_are_alembics_own() -> None:
    script = ScriptDirectory.from_config(_config())
    assert revisions() == [revision.revision for revision in reversed(list(script.walk_revisions()))]
    assert revisions()[-1] == script.get_current_head()


def test_opening_a_current_database_does_not_load_alembic(settings: TenancySettings) -> None:
    open_database(settings).close()
    program = (
        "import sys\n"
        "from tenancy.database import open_database\n"
        "from tenancy.settings import TenancySettings\n"
        f"open_database(TenancySettings(home={str(settings.home)!r})).close()\n"
        "sys.exit('alembic' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
