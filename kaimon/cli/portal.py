"""`kaimon portal`: the customers' pages, and the first Admin of a tenant."""

from __future__ import annotations

from typing import Annotated

import typer

from kaimon.cli.tenant import database
from tenancy.members import invite as invite_person
from tenancy.members import role_named

app = typer.Typer(help="Serve the customers' pages; invite their first Admin.", no_args_is_help=True)


@app.command()
def serve() -> None:
    """Serve until Ctrl-C; TLS 1.2 or newer only."""
    from sqlalchemy.exc import DBAPIError

    from dashboards.portal.processor import Processor
    from dashboards.portal.server import serve as run
    from dashboards.portal.settings import PortalSettings, StripeSettings
    from kaimon.base.aws import AwsError
    from kaimon.base.logs import configure_logs, get_logger
    from tenancy.database import plainly
    from tenancy.keys import UnusableKeyError
    from tenancy.migrate import NewerDatabaseError

    configure_logs("portal")
    settings = PortalSettings()
    try:
        Processor(StripeSettings(home=settings.home))
    except (ValueError, AwsError) as error:
        get_logger(__name__).critical("portal_not_started", error=str(error))
        raise typer.Exit(2) from error
    try:
        run(settings)
    except DBAPIError as error:
        get_logger(__name__).critical("portal_not_started", error=f"the control database: {plainly(error)}")
        raise typer.Exit(2) from error
    except (AwsError, UnusableKeyError, NewerDatabaseError) as error:
        get_logger(__name__).critical("portal_not_started", error=str(error))
        raise typer.Exit(2) from error


@app.command()
def invite(
    tenant: Annotated[str, typer.Option(help="The tenant's id.")],
    email: Annotated[str, typer.Argument(help="Who logs in with this address, verified, joins.", metavar="EMAIL")],
    role: Annotated[str, typer.Option(help="member or admin.")] = "admin",
) -> None:
    """Invite somebody to a tenant, usually its first Admin."""
    with database() as db:
        made = invite_person(db, tenant, email, role_named(role))
    print(f"invited until {made.expires_at:%Y-%m-%dT%H:%M:%SZ}")
