"""A draining landing run: it lands every tenant's segments until nothing has come for a while."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

from kaimon.base.logs import get_logger
from lake.settings import LakeSettings
from lake.stores import Store, open_store
from pipelines.landing.land import Landed, land_tenant, pending_tenants
from pipelines.settings import PipelineSettings
from pipelines.tenant_loop import Counts, Outcome
from tenancy.database import Database
from tenancy.leases import LeaseHeldError, acquire, held_lease, release

_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_BACKOFF_S = 10.0
_RUN = "landing-run"
_HANDOVER_POLL_S = 0.2
SUCCESSOR = "kaimon/successor"
"""Tag of a run that was started before the one that drains has ended: it is ready when that one is done."""
SUCCESSOR_PATIENCE_S = 300.0
_log = get_logger(__name__)


def drain(
    db: Database,
    holder: str,
    lake: LakeSettings,
    settings: PipelineSettings,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Land until idle for `landing_idle_s`, for at most `landing_limit_s`.

    Tenants come from the hints that landing has not taken back yet, and every `landing_listing_s` from a full
    listing of the staging store. A tenant that fails is tried again after 10 s; its error never stops the others.
    """
    store = open_store("staging", lake)
    counts: dict[str, Counter[str]] = {}
    clones: dict[str, set[str]] = {}
    failed: dict[str, str] = {}
    not_before: dict[str, float] = {}
    began = time.monotonic()
    last_work, next_listing = began, began
    while not should_stop():
        now = time.monotonic()
        if now - began > settings.landing_limit_s:
            break
        listing = now >= next_listing
        if listing:
            next_listing = now + settings.landing_listing_s
        worked = False
        for tenant in pending_tenants(db, store, None if listing else _EVER):
            if not_before.get(tenant, 0) > time.monotonic() or should_stop():
                continue
            landed = _land(db, tenant, holder, lake, should_stop, listing=listing, failed=failed)
            if landed is None or landed.held_elsewhere:
                not_before[tenant] = time.monotonic() + _BACKOFF_S
                continue
            not_before.pop(tenant, None)
            clones.setdefault(tenant, set()).update(landed.clones)
            if landed.segments:
                worked = True
                counts.setdefault(tenant, Counter()).update(_counts(landed))
        if worked:
            last_work = time.monotonic()
        elif time.monotonic() - last_work >= settings.landing_idle_s:
            break
        else:
            time.sleep(settings.landing_poll_s)
    return Outcome(
        done={tenant: dict(count) for tenant, count in sorted(counts.items())},
        failed=failed,
        clones={tenant: sorted(agents) for tenant, agents in sorted(clones.items()) if agents},
    )


def _land(
    db: Database,
    tenant: str,
    holder: str,
    lake: LakeSettings,
    should_stop: Callable[[], bool],
    *,
    listing: bool,
    failed: dict[str, str],
) -> Landed | None:
    try:
        landed = land_tenant(db, tenant, holder, lake, should_stop, listing=listing)
    except Exception as error:  # noqa: BLE001 - held apart, logged, and the others go on
        _log.exception("landing_failed", tenant=tenant)
        failed[tenant] = type(error).__name__
        return None
    failed.pop(tenant, None)
    return landed


def _counts(landed: Landed) -> Counts:
    return {
        "segments": landed.segments,
        "batches": landed.batches,
        "rows": landed.rows,
        "duplicates": landed.duplicates,
        "conflicts": landed.conflicts,
        "quarantined": landed.quarantined,
        "renamed": len(landed.renamed),
    }


@contextmanager
def draining(db: Database, holder: str, patience_s: float = 0.0) -> Iterator[None]:
    """Be the one draining run for the length of a `with`; wait for another to end for as long as `patience_s`.

    Raises:
        LeaseHeldError: another one drains.
    """
    deadline = time.monotonic() + patience_s
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held_lease(db, _RUN, holder, db.settings.lease_ttl_s))
                break
            except LeaseHeldError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_HANDOVER_POLL_S)
        yield


def is_draining(db: Database) -> bool:
    """Say whether a draining run is alive; one that died counts until its lease has expired."""
    lease = acquire(db, _RUN, "is anybody there", db.settings.lease_ttl_s)
    if lease is None:
        return True
    release(db, lease)
    return False


def anything_pending(db: Database, store: Store) -> bool:
    """Say whether a hint speaks of segments that have not landed; the sensor's cheap question."""
    return bool(pending_tenants(db, store, _EVER))
