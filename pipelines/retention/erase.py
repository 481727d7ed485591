"""Erasing a tenant: refused at once, every place emptied, its rows removed, and a signed receipt of what there was.

Every step may be the last one of a process: `erase_tenant` called again goes on where that one stopped. What is found
is written down before it is deleted, so that the receipt is of all of it however often it took.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from kaimon.base.logs import get_logger
from lake.commits import lease_name
from lake.settings import LakeSettings
from lake.stores import AlreadyExistsError, Store, open_store
from pipelines.dagster_logs import logs_url
from pipelines.retention.lines import blank_lines, log_files
from pipelines.retention.places import Place, places, rows_and_days
from pipelines.settings import PipelineSettings
from tenancy.compact import compact
from tenancy.database import Database
from tenancy.erasures import Erasure, begin, finish, get_erasure, note, remove_rows
from tenancy.receipts import compose, object_key, receipt_key
from tenancy.tenant_keys import key_of, schedule_deletion


@dataclass(frozen=True)
class Receipt:
    """A receipt as it lies in the audit store: its key there, its bytes, and the Ed25519 signature over them."""

    key: str
    body: bytes
    signature: bytes


def erase_tenant(
    db: Database,
    tenant: str,
    lake: LakeSettings | None = None,
    pipelines: PipelineSettings | None = None,
    *,
    reason: str = "request",
    asked: bool = False,
    wait: Callable[[float], None] = time.sleep,
) -> Receipt:
    """Erase a tenant, or go on with an erasure that was cut off, and return its receipt.

    It takes at least `revocation_grace_s`: so long may an ingest worker that cannot ask the database stage what it was
    sent before.

    Args:
        db: the control database.
        tenant: whose data.
        lake: where the stores are.
        pipelines: where logs are.
        reason: one of `tenancy.erasures.REASONS`.
        asked: begin only if the tenant's own request still stands.
        wait: sleeps so many seconds.

    Raises:
        tenancy.erasures.WithdrawnError: it does not stand any more; nothing was begun.
        ValueError: there is no such tenant.
        tenancy.leases.LeaseHeldError: somebody writes its tables; nothing was begun.
        tenancy.keys.UnusableKeyError: the key that signs receipts cannot be used; nothing was begun.
        lake.stores.StoreError: a store failed; what is deleted stays deleted.
        tenancy.compact.NotCompactError: a reader keeps old bytes of the control database; all else is done.
    """
    lake, pipelines = lake or LakeSettings(), pipelines or PipelineSettings()
    receipt_key(db.settings)  # an erasure that could not be receipted must not begin
    erasure = begin(db, tenant, lease_name(tenant), reason, asked=asked)
    if erasure.finished_at is not None:
        return read_receipt(erasure, open_store("audit", lake))
    get_logger(__name__).warning("erasure_goes_on", tenant=tenant, erasure=erasure.erasure_id, reason=erasure.reason)
    everywhere = places(tenant, lake)
    if "control" not in erasure.found:
        _empty_all(db, tenant, lake, everywhere)
        left = erasure.begun_at + timedelta(seconds=db.settings.revocation_grace_s) - db.clock()
        if left > timedelta(0):
            wait(left.total_seconds())
        _empty_late(db, tenant, everywhere)
        _blank(db, tenant, pipelines)
        _destroy_key(db, tenant)
        remove_rows(db, tenant)
    compact(db)
    receipt = _issue(db, tenant, open_store("audit", lake))
    finish(db, tenant, hashlib.sha256(receipt.body).hexdigest())
    get_logger(__name__).warning("tenant_erased", tenant=tenant, erasure=erasure.erasure_id, receipt=receipt.key)
    return receipt


def read_receipt(erasure: Erasure, store: Store) -> Receipt:
    """Return the receipt of an erasure that is finished.

    Raises:
        lake.stores.MissingError: it is not there.
        lake.stores.StoreError: the audit store failed.
    """
    key = object_key(erasure.tenant_id, erasure.erasure_id)
    return Receipt(key, store.get(key), store.get(f"{key}.sig"))


def _empty_all(db: Database, tenant: str, lake: LakeSettings, everywhere: list[Place]) -> None:
    """Write down what each place holds, then empty it."""
    for place in everywhere:
        known = _current(db, tenant).found
        if place.name not in known.get("noted", []):
            # Nobody but a late ingest worker writes any more: what is found now is what will be deleted.
            rows = rows_and_days(tenant, lake) if place.name == "lake" else {}
            held = {kind: told | rows.get(kind, {}) for kind, told in place.found().items()}

            def change(found: dict[str, Any], name: str = place.name, held: dict[str, Any] = held) -> None:
                if name not in found.setdefault("noted", []):
                    found["noted"].append(name)
                    found.setdefault("stores", {}).update(held)

            note(db, tenant, change)
        place.erase()


def _empty_late(db: Database, tenant: str, everywhere: list[Place]) -> None:
    """Write down, and delete, what came while the places were being emptied."""
    for place in everywhere:
        while held := place.found():

            def change(found: dict[str, Any], held: dict[str, Any] = held) -> None:
                late = found.setdefault("late", [])
                late += [told for told in ({"kind": kind} | one for kind, one in held.items()) if told not in late]

            note(db, tenant, change)
            place.erase()
        place.erase()


def _destroy_key(db: Database, tenant: str) -> None:
    """Let KMS delete the tenant's own key: whatever copy of its objects anybody kept ends with it."""
    if (arn := key_of(db, tenant)) is None:
        return
    told = schedule_deletion(db, arn)
    note(db, tenant, lambda found: found.setdefault("keys", [told]))


def _blank(db: Database, tenant: str, pipelines: PipelineSettings) -> None:
    lines = blank_lines(log_files(pipelines.home), tenant)
    if (url := logs_url()) is not None:
        # Here: its imports take a second, and few erasures need them.
        from pipelines.dagster_logs_s3 import blank_objects

        lines += blank_objects(url, tenant)

    def change(found: dict[str, Any]) -> None:
        found["log_lines"] = found.get("log_lines", 0) + lines

    if lines:
        note(db, tenant, change)


def _issue(db: Database, tenant: str, store: Store) -> Receipt:
    """Put the receipt and its signature; one that a run before has put is the one that counts."""
    erasure, key = _current(db, tenant), receipt_key(db.settings)
    found = {kind: told for kind, told in erasure.found.items() if kind != "noted"}
    body = compose(erasure, found, key.public_key(), db.clock())
    name = object_key(tenant, erasure.erasure_id)
    try:
        store.put_new(name, body)
    except AlreadyExistsError:
        body = store.get(name)
    signature = key.sign(body)
    try:
        store.put_new(f"{name}.sig", signature)
    except AlreadyExistsError:
        signature = store.get(f"{name}.sig")
    return Receipt(name, body, signature)


def _current(db: Database, tenant: str) -> Erasure:
    erasure = get_erasure(db, tenant)
    if erasure is None:
        raise ValueError(f"no erasure of {tenant!r} was begun")
    return erasure
