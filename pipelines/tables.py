"""One tenant's tables as the pipelines use them: read as of one moment, written under the tenant's lease."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from lake.commits import Writer, lease_name
from lake.reads import scan
from lake.schema import TABLES
from lake.settings import LakeSettings
from tenancy.database import Database
from tenancy.leases import LeaseHeldError, held_lease

PATIENCE_S: Final = 180.0
"""How long to wait for a tenant's lease: landing holds it for one group of segments, seconds."""

_PAUSE_S: Final = 0.2


class Snapshot:
    """Several tables opened at once: what is landed while a day is computed does not move under it."""

    def __init__(self, frames: dict[str, pl.LazyFrame]) -> None:
        self._frames = frames

    def scan(self, name: str, first_day: date | None = None, last_day: date | None = None) -> pl.LazyFrame:
        """Return a table's rows, bounded by its partition."""
        frame, partition = self._frames[name], TABLES[name].partition
        if partition is not None and first_day is not None:
            frame = frame.filter(pl.col(partition) >= first_day)
        if partition is not None and last_day is not None:
            frame = frame.filter(pl.col(partition) <= last_day)
        return frame


@dataclass(frozen=True)
class TenantTables:
    """One tenant's tables; `holder` names who takes the lease, for people to read."""

    db: Database
    tenant: str
    holder: str
    settings: LakeSettings
    patience_s: float = PATIENCE_S

    def snapshot(self, *names: str) -> Snapshot:
        """Open tables while nobody writes: between a landing's commits they would not agree.

        Raises:
            LeaseHeldError: the lease did not come free in time; so it is for the writes below.
        """
        with self.writer():
            return self.unlocked(*names)

    def unlocked(self, *names: str) -> Snapshot:
        """Open tables as they are: for one who holds the lease, or needs no more than one of them."""
        return Snapshot({name: scan(self.tenant, name, settings=self.settings) for name in names})

    def replace_day(self, table: str, frame: pl.DataFrame, day: date) -> None:
        """Replace one day's partition of a rollup."""
        with self.writer() as writer:
            writer.replace(table, frame, f"{TABLES[table].partition} = '{day.isoformat()}'")

    def append(self, table: str, frame: pl.DataFrame) -> None:
        """Append rows to a table whose rows are never changed."""
        with self.writer() as writer:
            writer.append(table, frame)

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Hold the tenant's lease for the length of a `with`, for as short as may be: nothing lands meanwhile.

        Raises:
            LeaseHeldError: it did not come free in time.
        """
        deadline = time.monotonic() + self.patience_s
        with ExitStack() as stack:
            while True:
                try:
                    lease = held_lease(self.db, lease_name(self.tenant), self.holder, self.db.settings.lease_ttl_s)
                    held = stack.enter_context(lease)
                    break
                except LeaseHeldError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(_PAUSE_S)
            yield Writer(self.tenant, held.fence, self.settings)
