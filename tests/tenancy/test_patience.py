"""A PostgreSQL that hangs instead of refusing: given up in bounded time, and taken up again by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from kaimon.base.problems import Problem
from tenancy.credentials import Authenticator
from tenancy.database import Database, open_database, plainly
from tenancy.enrollment import Enrolled
from tenancy.settings import TenancySettings
from tenancy.tables import TENANTS
from tenancy.tenants import list_tenants, set_subscription
from tenancy.tokens import mint

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@pytest.fixture
def hanging(postgres: Any) -> Callable[[], Any]:
    """Freeze the server for the length of a `with`: its sockets stay open, and nobody answers."""

    @contextmanager
    def freeze() -> Iterator[None]:
        postgres.pause()
        try:
            yield
        finally:
            postgres.resume()

    return freeze


@pytest.fixture
def settings(settings: TenancySettings) -> TenancySettings:
    return settings.model_copy(update={"database_timeout_s": 1.0})


def test_a_server_that_hangs_is_given_up_and_used_again_once_it_answers(
    db: Database, tenant: str, hanging: Callable[[], Any]
) -> None:
    assert list_tenants(db)
    with hanging():
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(DBAPIError) as caught:
                list_tenants(db)
            # A statement and a connection were waited for at most: 1 + 2 and 5 s, and the machine may be busy.
            assert time.monotonic() - began < 25
    assert plainly(caught.value) == "connection timeout expired"
    assert [found.tenant_id for found in list_tenants(db)] == [tenant]


def test_a_server_that_hangs_in_mid_transaction_leaves_nothing_of_it(
    db: Database, tenant: str, hanging: Callable[[], Any]
) -> None:
    def half() -> None:
        with db.transaction() as session:
            session.execute(TENANTS.update().values(name="half"))
            with hanging():
                session.execute(text("SELECT 1"))

    with pytest.raises(DBAPIError, match=r"did not answer within 3 s"):
        half()
    assert [found.name for found in list_tenants(db)] == [tenant]


def test_a_lock_that_somebody_keeps_is_waited_for_no_longer_than_that(db: Database, tenant: str) -> None:
    with db.transaction() as session:
        session.execute(TENANTS.update().values(name="kept"))
        with pytest.raises(DBAPIError, match="lock timeout"):
            set_subscription(db, tenant, "ended")
    set_subscription(db, tenant, "ended")


def test_a_statement_that_takes_too_long_is_ended_by_the_server_and_the_connection_stays(db: Database) -> None:
    def backend_of(session: Any) -> int:
        return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())

    with db.reading() as session:
        before = backend_of(session)
    with pytest.raises(DBAPIError, match="statement timeout"), db.reading() as session:
        session.execute(text("SELECT pg_sleep(30)"))
    with db.reading() as session:
        assert backend_of(session) == before


def test_whoever_waits_for_a_migration_does_not_give_up(postgres: Any, settings: TenancySettings) -> None:
    name = postgres.create()
    url = postgres.url(name)
    import psycopg

    from tenancy.migrate import _ADVISORY_LOCK

    short = TenancySettings(home=settings.home, database_url=url, database_timeout_s=0.2)
    opened: list[Database] = []
    with psycopg.connect(url) as first:
        first.execute("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_LOCK,))
        waiting = threading.Thread(target=lambda: opened.append(open_database(short)))
        waiting.start()
        # Longer than a statement may take, and than an answer is waited for.
        waiting.join(3)
        assert waiting.is_alive()
    waiting.join(60)
    (db,) = opened
    with pytest.raises(DBAPIError, match="statement timeout"), db.reading() as session:
        session.execute(text("SELECT pg_sleep(30)"))
    db.close()
    postgres.drop(name)


def test_while_the_poller_waits_no_other_is_made_to_wait(
    db: Database, enroll_host: Callable[..., Enrolled], hanging: Callable[[], Any], seconds: Any
) -> None:
    known, unknown = enroll_host().credential, enroll_host().credential
    authenticator = Authenticator(db, monotonic=seconds)
    assert authenticator.authenticate(known, "192.0.2.1")

    def poll() -> None:
        with suppress(DBAPIError):
            authenticator.poll()

    with hanging():
        polling = threading.Thread(target=poll)
        polling.start()
        while authenticator._unanswered_since is None:
            time.sleep(0.001)
        seconds.now += 2.001
        began = time.monotonic()
        for credential in (unknown, mint("hst")):
            with pytest.raises(Problem) as caught:
                authenticator.authenticate(credential, "192.0.2.1")
            assert (caught.value.status, caught.value.code) == (503, "control_plane_unavailable")
        assert polling.is_alive() or time.monotonic() - began > 1, "it was not waited for"
        assert authenticator.authenticate(known, "192.0.2.1")
        polling.join()
    authenticator.poll()
    assert authenticator.authenticate(unknown, "192.0.2.1")
