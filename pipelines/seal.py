"""Seals a tenant's day: its rows in order, in few files, in the place of those that landing wrote.

The files are built while others land; the lease is taken to commit them and no longer. Which day needs it is told by
the files themselves: a sealed one bears its seal's name. So a run that dies anywhere leaves a day that is sealed or
one that is not, and what it put in vain is in no table.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import polars as pl

from kaimon.base.logs import get_logger
from lake.checksum import RowsChecksum
from lake.commits import CommitConflictError, CommitError
from lake.files import DataFile, StoredFile, drop_files, read_files
from lake.frames import to_rows
from lake.ordering import RANGE_ROWS, in_order
from lake.reads import scan
from lake.sealed import FILE_BYTES, SealedFiles, seal_of
from pipelines.frames import conform
from pipelines.progress import Progress
from pipelines.tables import TenantTables
from tenancy.days import get, set_sealed
from tenancy.leases import LeaseHeldError

TABLE: Final = "events"
NIGHT: Final = timedelta(hours=2)
"""How long after midnight UTC a night begins: then the day before may be sealed, and a late day once more."""

_ATTEMPTS: Final = 3


class ChecksumError(Exception):
    """A day's rows do not come to the checksum that was kept when it was sealed."""


def seal_day(
    tables: TenantTables,
    day: date,
    *,
    again: bool = False,
    range_rows: int = RANGE_ROWS,
    file_bytes: int = FILE_BYTES,
) -> dict[str, int]:
    """Seal a day if it is over and has rows that are in no sealed file; else leave it as it is.

    What lands meanwhile stays beside the sealed files, for the next night.

    Args:
        tables: the tenant's.
        day: which.
        again: a day that is over is sealed whatever was sealed before, and must come to the checksum that was kept.
        range_rows: rows that are in memory at a time, about.
        file_bytes: when a file is full.

    Returns:
        Rows, files and bytes that were sealed; 0 where nothing was to do.

    Raises:
        ChecksumError: the day was whole in its seal, and its rows are others now; nothing has changed.
        lake.commits.CommitError: another writer took over or replaced the day; nothing has changed.
        lake.stores.StoreError: a file may not be durable; nothing has changed.
        tenancy.leases.LeaseHeldError: the lease did not come free in time; nothing has changed.
    """
    state = get(tables.db, tables.tenant, day)
    files = read_files(tables.tenant, TABLE, day, tables.settings)
    newest = _newest(tables, day, files)
    new: list[DataFile] = []
    now = tables.db.clock()
    if due(day, files, newest, now) or (again and files and is_over(day, now)):
        kept = kept_checksum(tables, day, files)
        new, told = _build(tables, day, files, range_rows, file_bytes)
        if kept is not None and told["checksum"].item() != kept:
            drop_files(tables.tenant, TABLE, new, tables.settings)
            raise ChecksumError(f"{day}: its rows come to {told['checksum'].item()}, and {kept} was kept at its seal")
        put_in_place(tables, day, files, new, told)
    if state is not None and (new or _is_sealed(files, newest)):
        set_sealed(tables.db, tables.tenant, day, state.version)
    return {"rows": sum(file.rows for file in new), "files": len(new), "bytes": sum(file.size for file in new)}


def due(day: date, files: Sequence[StoredFile], newest: tuple[str, datetime] | None, now: datetime) -> bool:
    """Say whether a day is to be sealed now.

    Args:
        day: which, UTC.
        files: what it consists of.
        newest: the name and the moment of its newest seal, if it has one.
        now: aware.
    """
    if not is_over(day, now):
        return False
    if _is_sealed(files, newest):
        return False
    seals = {seal_of(file) for file in files}
    # A seal whose files never came into the table has sealed nothing.
    return newest is None or newest[0] not in seals or newest[1] < _last_night(now)


def is_over(day: date, now: datetime) -> bool:
    """Say whether a day (UTC) has ended and its night has begun, so that it may be sealed."""
    return now >= datetime.combine(day, time(), UTC) + timedelta(days=1) + NIGHT


def checksum_of(tables: TenantTables, day: date) -> str | None:
    """Return the checksum of a day's rows in order; None if it is not sealed or rows have landed since."""
    return kept_checksum(tables, day, read_files(tables.tenant, TABLE, day, tables.settings))


def kept_checksum(tables: TenantTables, day: date, files: Sequence[StoredFile]) -> str | None:
    """Return the checksum that was kept of exactly these files of a day; None if none was."""
    return next(iter(_seal_of(tables, day, files)["checksum"]), None)


def _seal_of(tables: TenantTables, day: date, files: Sequence[StoredFile]) -> pl.DataFrame:
    """Return the row of `seals` that tells of exactly these files, or none."""
    names = {seal_of(file) for file in files}
    seals = scan(tables.tenant, "seals", day, day, tables.settings).collect()
    return seals.filter(pl.col("seal").is_in(list(names))) if len(names) == 1 and None not in names else seals.clear()


def _is_sealed(files: Sequence[StoredFile], newest: tuple[str, datetime] | None) -> bool:
    return not files or (newest is not None and {seal_of(file) for file in files} == {newest[0]})


def _last_night(now: datetime) -> datetime:
    tonight = datetime.combine(now.astimezone(UTC).date(), time(), UTC) + NIGHT
    return tonight if now >= tonight else tonight - timedelta(days=1)


def _newest(tables: TenantTables, day: date, files: Sequence[StoredFile]) -> tuple[str, datetime] | None:
    """Return the seal that the files are of, if they are of one, else the last one that was told of."""
    rows = _seal_of(tables, day, files)
    if rows.is_empty():
        rows = scan(tables.tenant, "seals", day, day, tables.settings).collect().sort("sealed_at")
    return rows.select("seal", "sealed_at").row(-1) if rows.height else None


def _build(
    tables: TenantTables, day: date, files: Sequence[StoredFile], range_rows: int, file_bytes: int
) -> tuple[list[DataFile], pl.DataFrame]:
    """Put the sealed files of what these files hold; see `build`."""
    ordered = frozenset(file.path for file in files if seal_of(file))
    progress, of = Progress("seal", tables.tenant, day=day), sum(file.rows for file in files)
    parts = in_order(
        tables.tenant,
        TABLE,
        files,
        tables.settings,
        is_ordered=ordered,
        range_rows=range_rows,
        told=lambda rows: progress.tell("sort", rows, of),
    )
    return build(tables, day, progress.watch("write", parts, of), file_bytes)


def build(
    tables: TenantTables, day: date, parts: Iterable[pl.DataFrame], file_bytes: int = FILE_BYTES
) -> tuple[list[DataFile], pl.DataFrame]:
    """Put a day's rows, which come in order, as sealed files; return them with the row of `seals` that tells of them.

    They are part of nothing until `put_in_place`; if `parts` fails, none of them is left.

    Raises:
        lake.stores.StoreError: a file may not be durable.
    """
    seal = uuid.uuid4().hex
    target = SealedFiles(tables.tenant, TABLE, day, seal, tables.settings, file_bytes)
    checksum, rows, events = RowsChecksum(TABLE), 0, 0
    try:
        for part in parts:
            batch = to_rows(part, TABLE)
            checksum.add(batch)
            target.add(batch)
            rows, events = rows + part.height, events + int(part["count"].sum())
            # Or else they would stay until the next range is made.
            del part, batch
        new = target.close()
    except BaseException:
        drop_files(tables.tenant, TABLE, target.files, tables.settings)
        raise
    told = {
        "event_day": day,
        "seal": seal,
        "rows": rows,
        "events": events,
        "files": len(new),
        "bytes": sum(file.size for file in new),
        "checksum": checksum.hexdigest(),
        "sealed_at": tables.db.clock(),
    }
    return new, conform(pl.DataFrame([told]), "seals")


def put_in_place(
    tables: TenantTables,
    day: date,
    old: Sequence[StoredFile],
    new: Sequence[DataFile],
    told: pl.DataFrame,
    *,
    same_rows: bool = True,
) -> None:
    """Say what the seal is, then put its files in the place of the old ones.

    In this order: a seal that is told of and is not there is one that did not come to be, and nobody goes by it. What
    was kept of a whole seal goes only when its files have gone: a run that dies here loses no checksum.

    Raises:
        lake.commits.CommitError: another writer took over or replaced the day; the new files are gone.
        tenancy.leases.LeaseHeldError: the lease did not come free in time; the new files are gone.
        ValueError: not as many rows, with `same_rows`.
    """
    of_day, before = f"event_day = '{day.isoformat()}'", _seal_of(tables, day, old)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with tables.writer() as writer:
                writer.replace("seals", pl.concat([before, told]), of_day)
                writer.swap_files(TABLE, old, new, same_rows=same_rows)
                if before.height:
                    writer.replace("seals", told, of_day)
        except LeaseHeldError:
            drop_files(tables.tenant, TABLE, new, tables.settings)
            raise
        except CommitError as error:
            there = {file.path for file in read_files(tables.tenant, TABLE, day, tables.settings)}
            if all(file.path in there for file in new):
                # The commit that failed had been written all the same.
                return
            again = isinstance(error, CommitConflictError) and all(file.path in there for file in old)
            if again and attempt < _ATTEMPTS:
                get_logger(__name__).warning("seal_commits_anew", tenant=tables.tenant, day=day, attempt=attempt)
                continue
            drop_files(tables.tenant, TABLE, new, tables.settings)
            raise
        else:
            return
