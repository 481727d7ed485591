"""One ingest process: everything that its routes share, started and stopped together."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from ingest.admission import Admission
from ingest.commit import CommitRule, Committer
from ingest.hints import HintFlusher
from ingest.memory import Recent
from ingest.metrics import Metrics
from ingest.parsing import Parsing
from ingest.requests import TimeToRead
from ingest.settings import IngestSettings
from kaimon.base.clock import Clock, utc_now
from kaimon.base.logs import get_logger
from lake.access import access_log
from lake.settings import LakeSettings
from lake.stores import Store, open_store
from tenancy.alarms import alarm_of_lost_access
from tenancy.credentials import Authenticator
from tenancy.database import Database, open_database
from tenancy.refusals import unavailable
from tenancy.settings import TenancySettings

_FRESH_S: Final = 1.0
_YOUNG_OBJECTS: Final = 50_000
_ASK_S: Final = 15.0
"""How long a request waits for the control database: less than an agent waits for its answer."""

Told = TypeVar("Told")


@dataclass
class Service:
    """What a process ingests with."""

    settings: IngestSettings
    db: Database
    authenticator: Authenticator
    poller: threading.Thread
    admission: Admission
    recent: Recent
    committer: Committer
    metrics: Metrics
    parsing: Parsing
    hashing: ThreadPoolExecutor
    reading: TimeToRead
    asking: ThreadPoolExecutor
    """Threads that wait for the control database, so that a slow one holds up nobody who is remembered."""
    clock: Clock = utc_now

    def why_not_ready(self) -> str | None:
        """Return why batches cannot be taken now, or None."""
        if self.committer.draining:
            return "shutting down"
        if self.committer.conflicted:
            return "another process writes under this node's name"
        if self.committer.stuck_tenants():
            return "a segment cannot be written"
        if not self.poller.is_alive():
            return "revocations are not looked up"
        if self.authenticator.stale:
            return "revocations cannot be looked up: the control database does not answer"
        return None

    async def ask(self, question: Callable[[], Told]) -> Told:
        """Ask the control database, off the event loop.

        Raises:
            Problem: 503, it took too long; and what `question` raises.
        """
        try:
            async with asyncio.timeout(_ASK_S):
                return await asyncio.get_running_loop().run_in_executor(self.asking, question)
        except TimeoutError as error:
            raise unavailable("the control database does not answer") from error


def new_node(clock: Clock = utc_now) -> str:
    """Return a name for an ingest process that no other has or had; it begins with the time, for people."""
    return f"{clock():%Y%m%dt%H%M%S}-{secrets.token_hex(6)}"


async def _keep_fresh(metrics: Metrics) -> None:
    """Show the watched values to whichever worker is asked for them."""
    while True:
        metrics.refresh()
        await asyncio.sleep(_FRESH_S)


def _spare_the_collector() -> None:
    """Keep the collector from walking through all that was loaded, again and again, while lines become objects.

    What lines become holds no cycles; requests make some, which it still finds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 100)


def end_process() -> None:
    """Ask our own process to stop: its supervisor starts another, under another name."""
    os.kill(os.getpid(), signal.SIGTERM)


@asynccontextmanager
async def running(
    settings: IngestSettings,
    metrics: Metrics,
    store: Store | None = None,
    clock: Clock = utc_now,
    on_fatal: Callable[[], None] = end_process,
) -> AsyncIterator[Service]:
    """Start a service; at the end write what waits, then stop.

    Args:
        settings: of ingest; the control database and the stores are those of the same home.
        metrics: where to count.
        store: the staging store, if it is not the configured one.
        clock: what time it is.
        on_fatal: called when this process must not go on.
    """
    lake = LakeSettings(home=settings.home)
    store = store or open_store("staging", lake)
    db = await asyncio.to_thread(open_database, TenancySettings(home=settings.home), clock)
    stop = threading.Event()
    try:
        authenticator = await asyncio.to_thread(Authenticator, db)
        poller = threading.Thread(target=authenticator.run_poller, args=(stop,), name="revocations", daemon=True)
        hints = HintFlusher(db)
        flushing = asyncio.create_task(hints.run())
        poller.start()
        with (
            access_log("ingest", lake, partial(alarm_of_lost_access, db)) as log,
            ThreadPoolExecutor(settings.parse_threads, "parse") as parsers,
            ThreadPoolExecutor(1, "hash") as hashing,
            ThreadPoolExecutor(settings.commit_threads, "commit") as committing,
            ThreadPoolExecutor(2, "ask") as asking,
        ):
            rule = CommitRule(
                settings.commit_linger_ms / 1000, settings.commit_bytes, settings.put_retry_s, settings.patience_s
            )
            committer = Committer(
                store, new_node(clock), rule, committing, metrics=metrics, on_durable=hints.note, on_fatal=on_fatal
            )
            admission = Admission(settings.admission_bytes, settings.tenant_admission_bytes)
            parsing = Parsing(settings.parse_threads, parsers)
            service = Service(
                settings,
                db,
                authenticator,
                poller,
                admission,
                Recent(),
                committer,
                metrics,
                parsing,
                hashing,
                TimeToRead(settings.body_timeout_s),
                asking,
                clock,
            )
            metrics.watch("waiting_bodies", "Bodies that wait to be parsed", parsing.waiting)
            metrics.watch("admitted_bytes", "Memory promised to requests", lambda: admission.taken)
            metrics.watch("waiting_batches", "Batches that wait for their segment", committer.waiting_batches)
            metrics.watch("access_waiting", "Records of the access log that are not kept yet", log.waiting)
            metrics.watch("access_lost", "Records of the access log that were lost", lambda: log.lost)
            metrics.watch("stuck_tenants", "Tenants whose segment cannot be written", committer.stuck_tenants)
            get_logger(__name__).info("ingest_started", node=committer.node)
            _spare_the_collector()
            ticking = asyncio.create_task(_keep_fresh(metrics))
            try:
                yield service
            finally:
                await committer.drain()
                ticking.cancel()
                hints.close()
                await flushing
                stop.set()
                get_logger(__name__).info("ingest_stopped", node=committer.node)
        await asyncio.to_thread(poller.join)
    finally:
        stop.set()
        db.close()
