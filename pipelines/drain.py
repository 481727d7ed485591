"""A draining landing run: it lands every tenant's segments until nothing has come for a while."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from datetime import UTC, datetime
from functools import partial
from typing import Self

from kaimon.base.clock import utc_now
from kaimon.base.logs import get_logger
from lake.settings import LakeSettings
from lake.stores import Store, open_store
from pipelines.landing.helpers import LANES, HelperError, Helpers
from pipelines.landing.land import GROUP_ROWS, Landed, land_tenant, pending_tenants
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
    Several land at once (`landing_at_once`), each under a lease of its own; a group's rows are shared out among them.
    While `landing_crowd` tenants wait at a look, there are as many processes, which land two at once each; else those
    at once are threads of this one.
    """
    store = open_store("staging", lake)
    told = _Told()
    not_before: dict[str, float] = {}
    began = time.monotonic()
    last_work, next_listing = began, began
    with _Hands(db, holder, lake, settings, should_stop) as hands:
        while not should_stop():
            now = time.monotonic()
            if now - began > settings.landing_limit_s:
                break
            listing = now >= next_listing
            if listing:
                next_listing = now + settings.landing_listing_s
            tenants = pending_tenants(db, store, None if listing else _EVER)
            begun = hands.begin([one for one in tenants if not_before.get(one, 0) <= time.monotonic()], listing)
            worked = False
            for future in as_completed(begun):
                tenant = begun[future]
                landed = told.take(tenant, future)
                if landed is None or landed.held_elsewhere:
                    not_before[tenant] = time.monotonic() + _BACKOFF_S
                else:
                    not_before.pop(tenant, None)
                    worked = worked or landed.segments > 0
            if worked:
                last_work = time.monotonic()
            elif time.monotonic() - last_work >= settings.landing_idle_s:
                break
            else:
                time.sleep(settings.landing_poll_s)
    return told.outcome()


class _Hands:
    """What lands several tenants at once: threads of this process, or for a crowd processes that threads wait for."""

    def __init__(
        self, db: Database, holder: str, lake: LakeSettings, settings: PipelineSettings, should_stop: Callable[[], bool]
    ) -> None:
        at_once = settings.landing_at_once
        self._here = partial(land_tenant, db, holder=holder, settings=lake, group_rows=max(1, GROUP_ROWS // at_once))
        self._helpers = Helpers(db, lake, holder, at_once, max(1, GROUP_ROWS // (at_once * LANES)))
        # Only the real clock tells the same time in other processes.
        self._crowd = settings.landing_crowd if at_once > 1 and db.clock is utc_now else None
        self._should_stop = should_stop
        self._threads = ThreadPoolExecutor(at_once, "landing")
        self._waiting = ThreadPoolExecutor(at_once * LANES, "landing-crowd")

    def begin(self, tenants: Sequence[str], listing: bool) -> dict[Future[Landed], str]:
        """Begin to land these tenants, none of which is being landed."""
        crowd = self._crowd is not None and len(tenants) >= self._crowd
        if not crowd:
            self._helpers.close()
        # Each in the caller's context: it says who acts.
        threads = self._waiting if crowd else self._threads
        return {threads.submit(copy_context().run, self._land, one, listing, crowd): one for one in tenants}

    def _land(self, tenant: str, listing: bool, crowd: bool) -> Landed:
        if self._should_stop():
            return Landed(tenant)
        if crowd:
            return self._helpers.land(tenant, listing, self._should_stop)
        return self._here(tenant, should_stop=self._should_stop, listing=listing)

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Wait for what was begun."""
        self._threads.shutdown()
        self._waiting.shutdown()
        self._helpers.close()


class _Told:
    """What became of the tenants so far. Used by one thread, that of the run."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.clones: dict[str, set[str]] = {}
        self.failed: dict[str, str] = {}

    def take(self, tenant: str, future: Future[Landed]) -> Landed | None:
        """Count what landed and return it; None, logged and held apart, if it failed."""
        try:
            landed = future.result()
        except HelperError as error:
            self.failed[tenant] = error.kind
            return None
        except Exception as error:  # noqa: BLE001 - the others go on
            _log.exception("landing_failed", tenant=tenant)
            self.failed[tenant] = type(error).__name__
            return None
        self.failed.pop(tenant, None)
        if not landed.held_elsewhere:
            self.clones.setdefault(tenant, set()).update(landed.clones)
        if landed.segments:
            self.counts.setdefault(tenant, Counter()).update(_counts(landed))
        return landed

    def outcome(self) -> Outcome:
        return Outcome(
            done={tenant: dict(count) for tenant, count in sorted(self.counts.items())},
            failed=self.failed,
            clones={tenant: sorted(agents) for tenant, agents in sorted(self.clones.items()) if agents},
        )


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
