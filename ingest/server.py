"""The server: granian with TLS 1.2 or newer, and no plain HTTP anywhere."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, Final

from granian import Granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from starlette.types import ASGIApp

from ingest.metrics import SHARED_FOLDER
from ingest.settings import IngestSettings
from kaimon.base.logs import configure_logs, get_logger
from kaimon.base.tls import ServerTls, ensure_development_tls
from lake.conditional import require_fit
from lake.settings import LakeSettings
from tenancy.database import open_database
from tenancy.settings import TenancySettings

_PR_SET_PDEATHSIG: Final = 1
# The server's own words go the way of all our logs.
_LOGS: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"propagate": True}, "granian.access": {"propagate": False}},
}


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
    # Parquet's and Polars' threads do not survive a fork.
    multiprocessing.set_start_method("spawn", force=True)
    lake = LakeSettings(home=settings.home)
    require_fit("staging", lake)
    with ExitStack() as until_the_end:
        if settings.workers > 1:
            os.environ[SHARED_FOLDER] = until_the_end.enter_context(TemporaryDirectory(prefix="kaimon-ingest-metrics-"))
        _serve(settings, tls, partial(load_application, settings, load))


def _serve(settings: IngestSettings, tls: ServerTls, load: Callable[[], ASGIApp]) -> None:
    get_logger(__name__).info("ingest_listening", host=settings.host, port=settings.port, workers=settings.workers)
    Granian(
        "ingest.app:create_app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        # One alone ends with the server, whose supervisor starts both.
        respawn_failed_workers=settings.workers > 1,
        http=HTTPModes.http1,
        websockets=False,
        ssl_cert=tls.certificate,
        ssl_key=tls.key,
        ssl_protocol_min=SSLProtocols.tls12,
        log_dictconfig=_LOGS,
        log_access=False,
        workers_kill_timeout=60,
    ).serve(target_loader=load, wrap_loader=False)


def server_tls(settings: IngestSettings) -> ServerTls:
    """Return the configured certificate, or the development one."""
    if settings.tls_certificate is not None and settings.tls_key is not None:
        return ServerTls(settings.tls_certificate, settings.tls_key, settings.tls_certificate)
    return ensure_development_tls(settings.home)


def load_application(settings: IngestSettings, load: Callable[[IngestSettings], ASGIApp] | None) -> ASGIApp:
    """Make the application in a worker process, which ends when the one that started it does."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    configure_logs("ingest")
    if load is not None:
        return load(settings)
    from ingest.app import create_app

    return create_app(settings)
