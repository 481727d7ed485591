"""The revocation epoch: a number that moves whenever something that was allowed may no longer be."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tenancy.tables import EPOCHS

_NAME: Final = "revocation"


def bump_epoch(session: Session) -> None:
    """Move the epoch in the transaction that revokes, so that nobody sees one without the other."""
    session.execute(update(EPOCHS).where(EPOCHS.c.name == _NAME).values(value=EPOCHS.c.value + 1))


def read_epoch(session: Session) -> int:
    """Return the epoch."""
    return int(session.execute(select(EPOCHS.c.value).where(EPOCHS.c.name == _NAME)).scalar_one())
