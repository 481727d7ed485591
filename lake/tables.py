"""One Delta table set per tenant: where each table lies, how it is created and opened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from kaimon.base.access import accessing
from lake.buckets import bucket_of
from lake.clients import delta_options
from lake.durable import make_folders
from lake.schema import TABLES, Table
from lake.settings import LakeSettings
from lake.stores import AlreadyExistsError, StoredObject, local_folder, open_store

TRANSACTION_RETENTION_DAYS: Final = 365
"""How long Delta remembers how far a node landed: longer than any staged segment lives (60 days), with room."""

_TENANT: Final = re.compile(r"[a-z][a-z0-9-]{1,38}[a-z0-9]")


def table_uri(tenant: str, name: str, settings: LakeSettings | None = None) -> str:
    """Return the URL of a tenant's table.

    Raises:
        ValueError: the tenant's id is not one.
        KeyError: there is no such table.
    """
    if not _TENANT.fullmatch(tenant):
        raise ValueError(f"not a tenant's id: {tenant!r}")
    return f"{(settings or LakeSettings()).lake_url.rstrip('/')}/{tenant}/{TABLES[name].name}"


def open_table(
    tenant: str, name: str, settings: LakeSettings | None = None, options: dict[str, str] | None = None
) -> DeltaTable | None:
    """Open a tenant's table as it is now; None if nothing was ever written to it.

    Args:
        tenant: whose table.
        name: one of `lake.schema.TABLES`.
        settings: where the lake is.
        options: what `lake.buckets.delta_options` gave to a process that may ask for nothing itself.
    """
    with accessing("storage", "lake.open", tenant, name):
        return silent_table(tenant, name, settings, options)


def table_place(tenant: str, name: str, settings: LakeSettings | None = None) -> str:
    """Return where a tenant's table is, as the libraries that read it want to be told: a folder's path, or S3's URL."""
    uri = table_uri(tenant, name, settings)
    return uri if bucket_of(uri) is not None else str(local_folder(uri))


def silent_table(
    tenant: str, name: str, settings: LakeSettings | None = None, options: dict[str, str] | None = None
) -> DeltaTable | None:
    """Open a table for an access that says itself what it does; else as `open_table`."""
    settings = settings or LakeSettings()
    options = options or delta_options(tenant, settings)
    try:
        return DeltaTable(table_place(tenant, name, settings), storage_options=options)
    except TableNotFoundError:
        return None
    except OSError:
        # Who may list below some folders only is refused what is not there.
        if options is None or next(iter(_log(tenant, name, settings)), None) is not None:
            raise
        return None


def renew(handle: DeltaTable) -> DeltaTable:
    """Bring a handle up to what its table is now, for a quarter of what opening it costs."""
    handle.update_incremental()
    return handle


def _log(tenant: str, name: str, settings: LakeSettings) -> Iterator[StoredObject]:
    """Yield the commits and checkpoints that are there."""
    found = open_store("lake", settings).list(f"{tenant}/{name}/_delta_log")
    return (one for one in found if not one.key.endswith("/_last_checkpoint"))


def create_table(tenant: str, name: str, settings: LakeSettings | None = None) -> DeltaTable:
    """Open a tenant's table, creating it empty if need be; several may try at once."""
    if (there := silent_table(tenant, name, settings)) is not None:
        return there
    with accessing("storage", "lake.create", tenant, name):
        return _create(tenant, name, settings)


def _create(tenant: str, name: str, settings: LakeSettings | None) -> DeltaTable:
    settings = settings or LakeSettings()
    place = table_place(tenant, name, settings)
    if bucket_of(settings.lake_url) is None:
        make_folders(Path(place))
    elif settings.s3_tenant_role is not None:
        # Delta asks for this of every table, and a session is refused it as long as it is not there. What it cannot
        # read there it does without, until its first checkpoint takes the place.
        with suppress(AlreadyExistsError):
            open_store("lake", settings).put_new(f"{tenant}/{name}/_delta_log/_last_checkpoint", b"none yet")
    table = TABLES[name]
    try:
        return DeltaTable.create(
            place,
            schema=table.schema,
            partition_by=[table.partition] if table.partition else None,
            name=table.name,
            description=table.purpose,
            configuration=properties(table),
            storage_options=delta_options(tenant, settings),
        )
    except DeltaError:
        if (there := silent_table(tenant, name, settings)) is not None:
            return there
        raise


def properties(table: Table) -> dict[str, str | None]:
    """Return a table's Delta properties.

    Delta's log keeps min and max of `statistics` only: it outlives an erasure, so it holds no personal value.
    Deletion vectors and column mapping stay off, so that every reader can read the files as they are.
    """
    return {
        "delta.setTransactionRetentionDuration": f"interval {TRANSACTION_RETENTION_DAYS} days",
        "delta.dataSkippingStatsColumns": ",".join(table.statistics),
        "delta.logRetentionDuration": "interval 7 days",
        "delta.deletedFileRetentionDuration": "interval 7 days",
        "delta.checkpointInterval": "50",
        "delta.enableDeletionVectors": "false",
        "delta.columnMapping.mode": "none",
    }
