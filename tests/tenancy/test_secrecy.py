"""No token shows anywhere but where it is handed over."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import structlog

from kaimon.base.logs import configure_logs, get_logger
from kaimon.base.problems import Problem
from tenancy.credentials import Authenticator
from tenancy.database import Database
from tenancy.enrollment import Enrolled, create_token, enroll, revoke_token
from tenancy.limits import SourceLimiter
from tenancy.tokens import mint, parse

Away = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Everything that is logged, at the lowest level."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs("test", logging.DEBUG)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def secret_part(token: str) -> str:
    return token[8:-4]


def failures(db: Database, token: str, credential: str, away: Away) -> Iterator[Callable[[], object]]:
    """Yield calls that fail, each with a token on the stack."""
    authenticator = Authenticator(db, limiter=SourceLimiter(burst=1))
    yield lambda: parse(token, "hst")
    yield lambda: parse(token[:-1] + "!", "enr")
    yield lambda: enroll(db, token, "h", {}, "b", "v")
    yield lambda: enroll(db, credential, "h", {}, "b", "v")
    yield lambda: enroll(db, token, "\x00", {}, "b", "v")
    yield lambda: authenticator.authenticate(credential, "s")
    yield lambda: authenticator.authenticate(token, "s")
    yield lambda: authenticator.authenticate(mint("hst"), "s")
    yield lambda: revoke_token(db, "acme", token)
    with away():
        yield lambda: enroll(db, token, "h", {}, "b", "v")
        yield lambda: Authenticator(db).authenticate(credential, "s")


def test_no_failure_shows_a_token(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], written: io.StringIO, away: Away
) -> None:
    record, token = create_token(db, tenant)
    credential = enroll_host(token).credential
    revoke_token(db, tenant, record.token_id)
    Authenticator(db)
    seen = 0
    for call in failures(db, token, credential, away):
        try:
            call()
        except (Problem, ValueError) as error:
            seen += isinstance(error, ValueError | Problem)
            shown = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
            get_logger("test").exception("call_failed")
            if isinstance(error, Problem):
                shown += str(error.body("req_1"))
            assert secret_part(token) not in shown
            assert secret_part(credential) not in shown
    assert seen >= 10
    assert written.getvalue().count('"call_failed"') == seen
    assert secret_part(token) not in written.getvalue()
    assert secret_part(credential) not in written.getvalue()


def test_records_show_no_secret(db: Database, tenant: str, enroll_host: Callable[..., Enrolled]) -> None:
    record, token = create_token(db, tenant)
    enrolled = enroll_host(token)
    authenticator = Authenticator(db)
    identity = authenticator.authenticate(enrolled.credential, "s")
    shown: list[Any] = [record, enrolled, identity, db, db.settings, authenticator, f"{enrolled}"]
    shown += [db.keys, vars(db.keys)["_db"]]
    keys = list(db.keys._plain.values())
    assert len(keys) == 2
    for value in map(repr, shown):
        assert secret_part(token) not in value
        assert secret_part(enrolled.credential) not in value
        for key in keys:
            assert key.hex() not in value
            assert repr(key) not in value


def test_not_even_debugging_logs_of_the_database_show_a_token(
    db: Database, tenant: str, enroll_host: Callable[..., Enrolled], written: io.StringIO
) -> None:
    engine_log = logging.getLogger("sqlalchemy.engine")
    engine_log.setLevel(logging.DEBUG)
    try:
        # Engines made from now on notice the level; this one is told.
        db.engine.echo = "debug"
        _, token = create_token(db, tenant)
        enrolled = enroll_host(token)
        Authenticator(db).authenticate(enrolled.credential, "s")
    finally:
        db.engine.echo = False
        engine_log.setLevel(logging.NOTSET)
    text = written.getvalue()
    assert "INSERT INTO host_credentials" in text
    assert secret_part(token) not in text
    assert secret_part(enrolled.credential) not in text
