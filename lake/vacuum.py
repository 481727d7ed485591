"""Files that a table no longer needs: those that others have replaced, and those that no commit ever named.

A file that was replaced is needed for as long as a reader may be at an older version. One that no commit has named yet
may be named by the next: it is told from one that was left behind by its age, and before it goes, a commit of ours
sees to it that whoever put it and slept since can no longer name it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl
import pyarrow as pa

from lake.commits import Writer
from lake.holdings import Held, holdings
from lake.settings import LakeSettings
from lake.tables import open_table

KEPT: Final = timedelta(days=7)
"""How long a file stays after it was replaced, or after it was put and never named: as the tables' properties say."""

_HOUR: Final = timedelta(hours=1)
_DATA: Final = re.compile(r"(?:[a-z_]+=[^/]+/)?(?:[^/._][^/]*\.parquet|\.[^/]+\.parquet\.[0-9a-f]{32})")
"""A data file's path below its table, or that of one that was being put when its process died."""


@dataclass(frozen=True)
class Unneeded:
    """A table's files that may go: others hold their rows since, or no commit ever named them."""

    replaced: list[Held]
    orphans: list[Held]

    @property
    def files(self) -> list[Held]:
        """All of them."""
        return [*self.replaced, *self.orphans]

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(held.size for held in self.files)


def unneeded(
    tenant: str, table: str, now: datetime, settings: LakeSettings | None = None, kept: timedelta = KEPT
) -> Unneeded:
    """Return the files of a table that no version within `kept` names; nothing is changed.

    Args:
        tenant: whose table.
        table: one of `lake.schema.TABLES`.
        now: aware; files that no commit names are told by their age at this moment.
        settings: where the lake is.
        kept: see `KEPT`; in whole hours.

    Raises:
        lake.stores.StoreError: the store cannot be asked.
    """
    settings = settings or LakeSettings()
    top = f"{tenant}/{table}/"
    # Listed first: what is put and named in between is not in this list, and what was in it is looked up afterwards.
    listed = {
        held.key.removeprefix(top): held for held in holdings(settings.lake_url, "lake").held(f"{tenant}/{table}")
    }
    handle = open_table(tenant, table, settings)
    if handle is None:
        return Unneeded([], [])
    told: Any = handle.get_add_actions(flatten=True)
    frame = pl.DataFrame(pa.table(told))
    current = set(frame["path"].to_list()) if frame.height else set()
    # A dry run lists the files whose removal is in the log; a `full` one would list what is about to be named, too.
    removed = set(handle.vacuum(0, dry_run=True, enforce_retention_duration=False))
    expired = set(handle.vacuum(kept // _HOUR, dry_run=True, enforce_retention_duration=False))
    data = {path: held for path, held in listed.items() if path not in current and _DATA.fullmatch(path)}
    return Unneeded(
        [held for path, held in data.items() if path in expired],
        [held for path, held in data.items() if path not in removed and held.modified <= now - kept],
    )


def delete_unneeded(writer: Writer, table: str, now: datetime, kept: timedelta = KEPT) -> Unneeded:
    """Delete a table's files that no version within `kept` names, and return them.

    The writer's lease is held meanwhile: nobody else names a file.

    Raises:
        lake.commits.CommitError: another writer has the lease, or came between; nothing is deleted.
        lake.stores.StoreError: some files are left; the next run finds them.
    """
    found = unneeded(writer.tenant, table, now, writer.settings, kept)
    if found.orphans:
        writer.fence_off(table)
    if found.files:
        holdings(writer.settings.lake_url, "lake").delete(found.files)
    return found
