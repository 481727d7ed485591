"""One of a draining run's processes: `main` with the descriptors of its ends of the pipes, one a tenant at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from contextvars import copy_context
from functools import partial
from multiprocessing.connection import Connection

from kaimon.base.acting import acting_as
from kaimon.base.logs import configure_logs, get_logger
from lake.access import access_log
from pipelines.landing.helpers import Errand, Post
from pipelines.landing.land import Landed, land_tenant
from tenancy.alarms import alarm_of_lost_access
from tenancy.database import Database, open_database


def serve(pipes: Sequence[Connection]) -> None:
    """Land tenant after tenant for each pipe until its other end closes: so is the end of a killed run seen, too.

    Raises:
        EOFError: they closed before anything was asked.
        OSError: the same.
    """
    post: Post = pipes[0].recv()
    with ExitStack() as stack:
        db = open_database(post.tenancy)
        stack.callback(db.close)
        if post.reports:
            stack.enter_context(access_log("pipelines", post.lake, partial(alarm_of_lost_access, db)))
        stack.enter_context(acting_as(post.who))
        threads = stack.enter_context(ThreadPoolExecutor(len(pipes), "landing"))
        # Each in this context: it says who acts.
        done = [threads.submit(copy_context().run, _errands, db, post, pipe) for pipe in pipes]
        for lane in done:
            lane.result()


def _errands(db: Database, post: Post, pipe: Connection) -> None:
    with pipe, suppress(EOFError, OSError):
        while True:
            errand: Errand = pipe.recv()
            # Nothing is sent before the answer: whatever can be read until then is the end.
            pipe.send(_landed(db, post, errand, pipe.poll))


def _landed(db: Database, post: Post, errand: Errand, should_stop: Callable[[], bool]) -> Landed | str:
    """Return what landed, or the class of the error that stopped it."""
    land = partial(land_tenant, listing=errand.listing, group_rows=post.group_rows)
    try:
        return land(db, errand.tenant, post.holder, post.lake, should_stop)
    except Exception as error:  # noqa: BLE001 - the others go on
        get_logger(__name__).exception("landing_failed", tenant=errand.tenant)
        return type(error).__name__


def main() -> None:
    """Serve until nobody asks any more."""
    configure_logs("pipelines")
    # Ctrl-C reaches all processes of a terminal; the run decides when this one has done enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        serve([Connection(int(number)) for number in sys.argv[1:]])
