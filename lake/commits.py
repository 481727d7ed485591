"""Commits that cannot happen twice: every write carries the lease's fence and how far each node has landed.

Delta does not deduplicate by itself. Two facts are built upon: a version is read and written through one handle, and
two commits that share an app id conflict. So every commit carries `Transaction("lease", fence)`: of two writers that
opened the same state, one fails, whoever they are; and one that opens a newer state sees a greater fence and stops.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from kaimon.base.access import accessing
from lake.buckets import bucket_of
from lake.conditional import require_fit_once
from lake.durable import sync_file, sync_folder
from lake.files import DataFile, StoredFile, files_of, paths_in
from lake.frames import to_rows
from lake.reads import frame_of, span_of
from lake.schema import TABLES
from lake.settings import LakeSettings
from lake.stores import local_folder, open_store
from lake.tables import create_table, renew, silent_table, table_uri

LEASE: Final = "lease"
"""The app id under which every commit carries its writer's fence; no node has this name."""

_NAME: Final = "kaimon_commit"
"""Under which a commit says which it is: one that met itself is known again."""
_ATTEMPTS: Final = 5
_KEPT_S: Final = 300.0
"""How long a handle is used: less than the least that a session lasts of which it has the credentials."""
_Act = Callable[[DeltaTable, CommitProperties], object]


class CommitError(Exception):
    """A commit that was refused; nothing of it is in the table."""


class StaleLeaseError(CommitError):
    """A writer with a greater fence has written since: this one's lease is no longer its own."""


class CommitConflictError(CommitError):
    """The table is no longer what the writer decided upon: it must read again and decide anew."""


def lease_name(tenant: str) -> str:
    """Return the name of the lease that every writer of a tenant's tables holds, whatever it writes."""
    return f"lake/{tenant}"


class Writer:
    """The one writer of a tenant's tables, for as long as its lease has the greatest fence."""

    def __init__(self, tenant: str, fence: int, settings: LakeSettings | None = None) -> None:
        """Write for `tenant` under a lease of its `lease_name`, whose number is `fence`."""
        self.tenant = tenant
        self.fence = fence
        self.settings = settings or LakeSettings()
        self._handles: dict[str, DeltaTable] = {}
        self._until: dict[str, float] = {}
        self._known: dict[str, dict[str, int]] = {}

    def versions(self, table: str, nodes: Iterable[str]) -> dict[str, int]:
        """Return the last sequence that a table's commits carry for each node; 0 where none does."""
        with accessing("storage", "lake.open", self.tenant, table):
            handle = self._kept(table)
        return {node: self._version(table, handle, node) for node in nodes}

    def scan(
        self, table: str, first_day: date | None = None, last_day: date | None = None, *, anew: bool = True
    ) -> pl.LazyFrame:
        """Return a table as it is now, as `lake.reads.scan` does; without `anew` as this writer looked at it last.

        That is enough for what goes into the same table: a commit fails if another came since.
        """
        with accessing("storage", "lake.read", self.tenant, span_of(table, first_day, last_day)):
            handle = self._kept(table, anew=anew)
        return frame_of(handle, self.tenant, table, (first_day, last_day), self.settings)

    def may_hold(self, table: str, column: str, least: int, most: int) -> bool:
        """Say whether any row's `column` may be from `least` to `most`, by the log's statistics, which cost little.

        As this writer looked at the table last. True where a file's statistics do not tell.
        """
        with accessing("storage", "lake.open", self.tenant, table):
            handle = self._kept(table, anew=False)
        if handle is None:
            return False
        files = pa.table(handle.get_add_actions(flatten=True))
        if not files.num_rows:
            return False
        if not {f"min.{column}", f"max.{column}"} <= set(files.schema.names):
            return True
        spans = zip(files[f"min.{column}"].to_pylist(), files[f"max.{column}"].to_pylist(), strict=True)
        return any(low is None or high is None or (low <= most and least <= high) for low, high in spans)

    def append(
        self,
        table: str,
        frame: pl.DataFrame,
        versions: Mapping[str, int] | None = None,
        expected: Mapping[str, int] | None = None,
    ) -> int:
        """Append rows and return the table's version.

        Args:
            table: one of `lake.schema.TABLES`.
            frame: rows of it, every column.
            versions: the sequence per node that these rows bring the table to.
            expected: the sequence per node that the table must stand at; by default anything below `versions`.

        Raises:
            StaleLeaseError: another writer has the lease.
            CommitConflictError: the table does not stand at `expected`, or conflicts did not end.
            ValueError: the frame is not of the table's schema.
        """
        with accessing("storage", "lake.append", self.tenant, table) as told:
            told.count = frame.height
            # Without rows the same commit, but for what delta-rs does to write no file.
            rows = to_rows(frame, table)
            act = _rows(rows, mode="append") if rows.num_rows else _actions(table, [])
            return self._append(table, act, versions, expected)

    def append_files(
        self,
        table: str,
        files: Sequence[DataFile],
        versions: Mapping[str, int] | None = None,
        expected: Mapping[str, int] | None = None,
    ) -> int:
        """Make files that `lake.files.put_file` has put part of a table; else as `append`."""
        with accessing("storage", "lake.append", self.tenant, table) as told:
            told.count, told.bytes = sum(file.rows for file in files), sum(file.size for file in files)
            return self._append(table, _actions(table, [file.added(table) for file in files]), versions, expected)

    def swap_files(
        self, table: str, old: Sequence[StoredFile], new: Sequence[DataFile], *, same_rows: bool = True
    ) -> int:
        """Put files in the place of others that hold the same rows, and return the table's version.

        What was appended since `old` was read stays as it is. Never tried again, as `replace` is not. Without
        `same_rows` they may hold others: for one who mends a table.

        Raises:
            StaleLeaseError: another writer has the lease.
            CommitConflictError: one of `old` is no longer part of the table, or another commit came between.
            ValueError: `new` has not as many rows as `old`.
        """
        if (are := sum(file.rows for file in new)) != (were := sum(file.rows for file in old)) and same_rows:
            raise ValueError(f"{table}: {are} rows cannot stand for {were}")
        with accessing("storage", "lake.replace", self.tenant, table) as told:
            told.count, told.bytes = are, sum(file.size for file in new)
            return self._swap(table, old, new, same_rows=same_rows)

    def _swap(self, table: str, old: Sequence[StoredFile], new: Sequence[DataFile], *, same_rows: bool) -> int:
        handle = self._admitted(table, None, None)
        put = {path for day in {file.day for file in new} for path in paths_in(self.tenant, table, day, self.settings)}
        if lost := [file.path for file in new if file.path not in put]:
            raise CommitError(f"{table}: {len(lost)} of {len(new)} files are gone: they were put too long ago")
        there = {file.path for day in {file.day for file in old} for file in files_of(handle, table, day)}
        if gone := [file.path for file in old if file.path not in there]:
            raise CommitConflictError(f"{table}: {len(gone)} of {len(old)} files are no longer part of it")
        changes: list[AddAction | RemoveAction] = [
            *(file.removed(table, same_rows=same_rows) for file in old),
            *(file.added(table, new_rows=not same_rows) for file in new),
        ]
        try:
            return self._write(handle, table, _actions(table, changes), None)
        except CommitFailedError as error:
            self._admitted(table, None, None)
            raise CommitConflictError(f"{table}: {error}") from error

    def _append(
        self, table: str, act: _Act, versions: Mapping[str, int] | None, expected: Mapping[str, int] | None
    ) -> int:
        for attempt in range(_ATTEMPTS):
            handle = self._admitted(table, versions, expected)
            try:
                return self._write(handle, table, act, versions)
            except CommitFailedError:
                # Admission decides anew on what the other commit left: who holds the lease, where the nodes stand.
                time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 - jitter, no secret
        raise CommitConflictError(f"{table}: {_ATTEMPTS} attempts met another commit")

    def replace(
        self,
        table: str,
        frame: pl.DataFrame,
        predicate: str | None = None,
        versions: Mapping[str, int] | None = None,
        expected: Mapping[str, int] | None = None,
    ) -> int:
        """Replace the rows that match `predicate` (SQL on the partition column; None: all) and return the version.

        Never tried again: what it would write was computed from a state that another commit has just changed.

        Raises:
            StaleLeaseError: another writer has the lease.
            CommitConflictError: another commit came between, or the table does not stand at `expected`.
            ValueError: the frame is not of the table's schema.
        """
        with accessing("storage", "lake.replace", self.tenant, table) as told:
            told.count = frame.height
            act = _rows(to_rows(frame, table), mode="overwrite", predicate=predicate)
            handle = self._admitted(table, versions, expected)
            try:
                return self._write(handle, table, act, versions)
            except CommitFailedError as error:
                self._admitted(table, versions, expected)
                raise CommitConflictError(f"{table}: {error}") from error

    def drop_days(self, table: str, before: date) -> int:
        """Take every day before a date out of a table and return its version; their files are there until deleted.

        Raises:
            StaleLeaseError: another writer has the lease.
            CommitConflictError: another commit came between.
            ValueError: the table is not kept by day.
        """
        partition = TABLES[table].partition
        if partition is None:
            raise ValueError(f"{table} is not kept by day")
        with accessing("storage", "lake.drop", self.tenant, table):
            handle = self._admitted(table, None, None)
            predicate = f"{partition} < '{before.isoformat()}'"
            try:
                return self._write(
                    handle, table, lambda open_, marks: open_.delete(predicate, commit_properties=marks), None
                )
            except CommitFailedError as error:
                self._admitted(table, None, None)
                raise CommitConflictError(f"{table}: {error}") from error

    def fence_off(self, table: str) -> int:
        """Commit nothing but this writer's fence, and return the table's version: older holders can no longer commit.

        Raises:
            StaleLeaseError: another writer has the lease.
            CommitConflictError: conflicts did not end.
        """
        with accessing("storage", "lake.fence", self.tenant, table):
            return self._append(table, _actions(table, []), None, None)

    def _admitted(
        self, table: str, versions: Mapping[str, int] | None, expected: Mapping[str, int] | None
    ) -> DeltaTable:
        """Return a handle through which this writer may write, as far as it has looked.

        It is not renewed: what is written through it conflicts with what it missed, and the next is opened anew.
        """
        require_fit_once("lake", self.settings)
        handle = self._take(table) or create_table(self.tenant, table, self.settings)
        if (newest := self._version(table, handle, LEASE)) > self.fence:
            raise StaleLeaseError(f"{table}: fence {self.fence}, but {newest} has written")
        for node, sequence in (versions or {}).items():
            stands = self._version(table, handle, node)
            if stands >= sequence or (expected is not None and stands != expected.get(node, 0)):
                raise CommitConflictError(f"{table}: node {node} stands at {stands}, not where {sequence} follows")
        return handle

    def _take(self, table: str, *, anew: bool = False) -> DeltaTable | None:
        """Return a table through a handle that nobody else has; None if nothing was ever written to it.

        A handle is kept from one use to the next, for a writer looks at each table again and again; with `anew` it is
        brought up to what the table is now.
        """
        kept, now = self._handles.pop(table, None), time.monotonic()
        if kept is not None and now < self._until[table]:
            if not anew:
                return kept
            self._known.pop(table, None)
            return renew(kept)
        self._known.pop(table, None)
        self._until[table] = now + _KEPT_S
        return silent_table(self.tenant, table, self.settings)

    def _kept(self, table: str, *, anew: bool = True) -> DeltaTable | None:
        handle = self._take(table, anew=anew)
        if handle is not None:
            self._handles[table] = handle
        return handle

    def _version(self, table: str, handle: DeltaTable | None, app_id: str) -> int:
        """Return the last number that a table's commits carry for `app_id`, 0 where none does; asked once a handle."""
        known = self._known.setdefault(table, {})
        if handle is not None and app_id not in known:
            known[app_id] = handle.transaction_version(app_id) or 0
        return known.get(app_id, 0)

    def _write(self, handle: DeltaTable, table: str, act: _Act, versions: Mapping[str, int] | None) -> int:
        marks = [Transaction(LEASE, self.fence)]
        marks += [Transaction(node, sequence) for node, sequence in sorted((versions or {}).items())]
        before, name = handle.version(), uuid.uuid4().hex
        try:
            act(handle, CommitProperties(custom_metadata={_NAME: name}, app_transactions=marks))
            version = handle.version()
            self._handles[table] = handle
            # Whatever else came between, of these numbers nobody else has written any: that would conflict.
            self._known.setdefault(table, {}).update({mark.app_id: mark.version for mark in marks})
        except (DeltaError, OSError):
            # An answer that was lost: what delta-rs tried again met its own commit, or gave up not knowing.
            found = self._version_of(table, name, before)
            if found is None:
                raise
            version = found
        # In S3 what is there is durable.
        if bucket_of(self.settings.lake_url) is None:
            _settle(local_folder(table_uri(self.tenant, table, self.settings)), before + 1, version)
        return version

    def _version_of(self, table: str, name: str, before: int) -> int | None:
        """Return the version that a commit of ours made after version `before`, None if it made none."""
        handle, store = silent_table(self.tenant, table, self.settings), open_store("lake", self.settings)
        for version in range(before + 1, (handle.version() if handle is not None else 0) + 1):
            log = store.get(f"{self.tenant}/{table}/_delta_log/{version:020d}.json")
            if any(json.loads(line).get("commitInfo", {}).get(_NAME) == name for line in log.splitlines()):
                return version
        return None


def _rows(rows: pa.Table, **how: Any) -> _Act:
    """Return the commit that writes rows."""
    zstd = WriterProperties(compression="ZSTD", compression_level=1)
    return lambda handle, marks: write_deltalake(handle, rows, writer_properties=zstd, commit_properties=marks, **how)


def _actions(table: str, changes: Sequence[AddAction | RemoveAction]) -> _Act:
    """Return the commit that adds and removes files."""
    partition = TABLES[table].partition
    return lambda handle, marks: handle.create_write_transaction(
        list(changes), "append", handle.schema(), partition, commit_properties=marks
    )


def _settle(folder: Path, first: int, last: int) -> None:
    """Make commits durable, files first: what a later commit builds upon survives a loss of power.

    delta-rs does not fsync. Between its commit and this the rows may be lost with the power, never what rests on
    them; their segments are still staged and land again.
    """
    log = folder / "_delta_log"
    folders = {folder, log}
    for version in range(first, last + 1):
        commit = log / f"{version:020d}.json"
        for line in commit.read_text().splitlines():
            if added := json.loads(line).get("add"):
                file = folder / unquote(added["path"])
                sync_file(file)
                folders.add(file.parent)
        sync_file(commit)
    for changed in folders:
        sync_folder(changed)
