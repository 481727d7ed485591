"""Patience with PostgreSQL: a server that hangs, or a network that swallows, is an error after so many seconds.

The server keeps its own limits for statements and locks, but one that is frozen keeps none, and one whose kernel still
acknowledges what it is sent is no broken connection: only who waits can tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection

CONNECT_S: Final = 5
"""How long a connection may take to come about."""
_MARGIN_S: Final = 2.0
"""How much longer than the server we wait, so that it may say itself what took so long."""
_FORGOTTEN_S: Final = 60
"""How long a client that has stopped in mid-transaction may hold up the others."""


class PatientConnection(psycopg.Connection[Any]):
    """A connection that closes itself when the server does not answer in time."""

    patience_s: float | None = None
    """None waits for ever."""

    def wait(self, gen: PQGen[Any], *args: Any, **options: Any) -> Any:
        """Wait for the server's answer, as `psycopg.Connection.wait`.

        Raises:
            psycopg.OperationalError: it did not come in time; what became of the transaction is not known.
        """
        if args or self.patience_s is None or options.get("timeout") is not None:
            return super().wait(gen, *args, **options)
        try:
            return super().wait(gen, **{**options, "timeout": self.patience_s})
        except psycopg.OperationalError as error:
            if self.closed or error.sqlstate is not None:
                raise
            self.close()
            raise psycopg.OperationalError(f"the server did not answer within {self.patience_s:g} s") from error


def connect(arguments: Any, options: Mapping[str, Any], timeout_s: float) -> PatientConnection:
    """Connect with limits in force on both sides."""
    milliseconds = int(timeout_s * 1000)
    limits = {
        "statement_timeout": milliseconds,
        # Sooner than the statement's, so that it is known to have been a lock.
        "lock_timeout": milliseconds * 4 // 5,
        "idle_in_transaction_session_timeout": _FORGOTTEN_S * 1000,
    }
    network = {
        "connect_timeout": CONNECT_S,
        "tcp_user_timeout": 10_000,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
    }
    made = PatientConnection.connect(*arguments, **{**network, **options})
    made.patience_s = timeout_s + _MARGIN_S
    return made


@contextmanager
def patient(connection: Connection) -> Iterator[None]:
    """Let a transaction take as long as it needs: whoever waits for its turn to migrate does not hang."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
    driver = connection.connection.driver_connection
    if not isinstance(driver, PatientConnection):
        raise TypeError("a connection that was not made here")
    before, driver.patience_s = driver.patience_s, None
    try:
        yield
    finally:
        driver.patience_s = before
