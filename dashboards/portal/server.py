"""The portal's server: granian with TLS 1.2 or newer, and no plain HTTP anywhere."""

from __future__ import annotations

import multiprocessing
from contextlib import closing
from functools import partial

from fastapi import FastAPI
from granian import Granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols

from dashboards.portal.settings import PortalSettings
from kaimon.base.logs import configure_logs, get_logger
from kaimon.base.tls import ServerTls, ensure_development_tls
from tenancy.database import open_database
from tenancy.settings import TenancySettings


def serve(settings: PortalSettings | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = settings or PortalSettings()
    tls = ensure_development_tls(settings.home)
    if settings.portal_tls_certificate is not None and settings.portal_tls_key is not None:
        tls = ServerTls(settings.portal_tls_certificate, settings.portal_tls_key, settings.portal_tls_certificate)
    # Once, here: a database that cannot be opened is said before a port is open.
    with closing(open_database(TenancySettings(home=settings.home))) as db:
        db.keys.prepare()
    # Polars' threads do not survive a fork.
    multiprocessing.set_start_method("spawn", force=True)
    get_logger(__name__).info("portal_listening", host=settings.portal_host, port=settings.portal_port)
    Granian(
        "dashboards.portal.app:create_app",
        address=settings.portal_host,
        port=settings.portal_port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        ssl_cert=tls.certificate,
        ssl_key=tls.key,
        ssl_protocol_min=SSLProtocols.tls12,
        log_access=False,
    ).serve(target_loader=partial(load_application, settings), wrap_loader=False)


def load_application(settings: PortalSettings) -> FastAPI:
    """Make the application in a worker process."""
    configure_logs("portal")
    from dashboards.portal.app import create_app

    return create_app(settings)
