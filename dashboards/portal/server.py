"""The server of the portal: what is looked at before a port is open, and the application in its worker."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from starlette.types import ASGIApp

from dashboards.portal.settings import PortalSettings
from kaimon.base.https import Listening, serve_https, server_tls
from tenancy.database import open_database
from tenancy.settings import TenancySettings


def serve(settings: PortalSettings | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = settings or PortalSettings()
    tls = server_tls(settings.home, settings.portal_tls_certificate, settings.portal_tls_key)
    # Once, here: a database that cannot be opened is said before a port is open.
    with closing(open_database(TenancySettings(home=settings.home))) as db:
        db.keys.prepare()
    what = Listening("portal", settings.portal_host, settings.portal_port, tls)
    serve_https(what, partial(load_application, settings))


def load_application(settings: PortalSettings) -> ASGIApp:
    """Make the application in a worker process."""
    from dashboards.portal.app import create_app

    return create_app(settings)
