"""The server of ingest: what is looked at before a port is open, and the application in each worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from tempfile import TemporaryDirectory

from starlette.types import ASGIApp

from ingest.metrics import SHARED_FOLDER
from ingest.settings import IngestSettings
from kaimon.base.https import Listening, serve_https
from kaimon.base.https import server_tls as tls_of
from kaimon.base.tls import ServerTls
from lake.conditional import require_fit
from lake.settings import LakeSettings
from tenancy.database import open_database
from tenancy.settings import TenancySettings


def serve(settings: IngestSettings | None = None, load: Callable[[IngestSettings], ASGIApp] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; requests that wait for their segment are answered first.

    Args:
        settings: from the environment if not given.
        load: makes the application in the worker process, where it must be importable.
    """
    settings = settings or IngestSettings()
    tls = server_tls(settings)
    # Once, here: a database that cannot be opened, or keys that cannot be had, are said before a port is open.
    with closing(open_database(TenancySettings(home=settings.home))) as db:
        db.keys.prepare()
    require_fit("staging", LakeSettings(home=settings.home))
    with ExitStack() as until_the_end:
        if settings.workers > 1:
            os.environ[SHARED_FOLDER] = until_the_end.enter_context(TemporaryDirectory(prefix="kaimon-ingest-metrics-"))
        what = Listening("ingest", settings.host, settings.port, tls, settings.workers)
        serve_https(what, partial(load_application, settings, load))


def server_tls(settings: IngestSettings) -> ServerTls:
    """Return the configured certificate, or the development one."""
    return tls_of(settings.home, settings.tls_certificate, settings.tls_key)


def load_application(settings: IngestSettings, load: Callable[[IngestSettings], ASGIApp] | None) -> ASGIApp:
    """Make the application in a worker process."""
    if load is not None:
        return load(settings)
    from ingest.app import create_app

    return create_app(settings)
