"""Circuit breakers: a service that keeps failing is left alone for a while, by all who share the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sqlalchemy import select

from tenancy.database import Database
from tenancy.metadata import insert_into
from tenancy.summary_tables import BREAKERS

State = Literal["closed", "open", "trying"]


@dataclass(frozen=True)
class Breaker:
    """One service's breaker: closed while it does well, open for `pause_s` seconds after `failures` in a row.

    When the pause is over one caller may try; if that fails too, the next pause begins.
    """

    db: Database
    name: str
    failures: int
    pause_s: float

    def may_call(self) -> bool:
        """Say whether the service may be asked now; whoever gets to try after a pause holds off the others."""
        now = self.db.clock()
        with self.db.transaction() as session:
            row = session.execute(select(BREAKERS).where(BREAKERS.c.name == self.name).with_for_update()).first()
            if row is None or row.open_until is None:
                return True
            # A clock that was set back must not keep it open for longer than a pause.
            if now < row.open_until <= now + timedelta(seconds=self.pause_s):
                return False
            trying = BREAKERS.update().where(BREAKERS.c.name == self.name)
            session.execute(trying.values(open_until=now + timedelta(seconds=self.pause_s), changed_at=now))
            return True

    def succeeded(self) -> None:
        """The service did what it should: closed."""
        self._put(0)

    def failed(self) -> None:
        """It did not: one more, and enough of them open it."""
        with self.db.reading() as session:
            known = session.execute(select(BREAKERS.c.failures).where(BREAKERS.c.name == self.name)).scalar()
        if known is None:
            self._put(0)
        now = self.db.clock()
        with self.db.transaction() as session:
            mine = select(BREAKERS).where(BREAKERS.c.name == self.name).with_for_update()
            failures = int(session.execute(mine).one().failures) + 1
            until = now + timedelta(seconds=self.pause_s) if failures >= self.failures else None
            counted = BREAKERS.update().where(BREAKERS.c.name == self.name)
            session.execute(counted.values(failures=failures, open_until=until, changed_at=now))

    def state(self) -> State:
        """Return `closed`, `open`, or `trying` once a pause is over and nobody has succeeded since."""
        with self.db.reading() as session:
            row = session.execute(select(BREAKERS).where(BREAKERS.c.name == self.name)).first()
        if row is None or row.open_until is None:
            return "closed"
        return "open" if self.db.clock() < row.open_until else "trying"

    def _put(self, failures: int) -> None:
        now = self.db.clock()
        row = {"failures": failures, "open_until": None, "changed_at": now}
        put = insert_into(BREAKERS, self.db.dialect).values(name=self.name, **row)
        with self.db.transaction() as session:
            session.execute(put.on_conflict_do_update(index_elements=["name"], set_=row))
