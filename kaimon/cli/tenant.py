"""`kaimon tenant`: make and list tenants."""

from __future__ import annotations

import getpass
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated

import typer
from sqlalchemy.exc import DBAPIError

from kaimon.base.acting import Actor, acting_as
from kaimon.base.aws import AwsError
from kaimon.base.redact import redact
from tenancy.database import Database, open_database
from tenancy.keys import UnusableKeyError
from tenancy.migrate import NewerDatabaseError
from tenancy.people import person_of
from tenancy.tenants import create_tenant, get_tenant, list_tenants, set_subscription

app = typer.Typer(help="Make and list tenants.", no_args_is_help=True)


@contextmanager
def database() -> Iterator[Database]:
    """Open the control database for one command; what people can mend is a line on stderr and exit code 2."""
    try:
        with closing(open_database()) as db:
            who = Actor(person_of(db, f"login:{login()}"), f"cli:{os.getpid()}", f"req_{secrets.token_hex(8)}")
            with acting_as(who):
                yield db
    except (ValueError, AwsError, UnusableKeyError, NewerDatabaseError, DBAPIError, OSError) as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        raise typer.Exit(2) from error


def login() -> str:
    """Return who typed the command: whoever logged in, also through sudo."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


@app.command()
def create(
    tenant_id: Annotated[str, typer.Argument(help="3 to 40 of a-z, 0-9 and -, first a letter.", metavar="ID")],
    name: Annotated[str | None, typer.Option(help="For people; the id if not given.")] = None,
    subscription: Annotated[str, typer.Option(help="trial, active, past_due or ended.")] = "trial",
) -> None:
    """Make a tenant."""
    with database() as db:
        tenant = create_tenant(db, tenant_id, name, subscription)
    print(f"tenant {tenant.tenant_id} made, subscription {tenant.subscription}")


@app.command("list")
def list_() -> None:
    """List tenants, one a line: id, subscription, when made, name."""
    with database() as db:
        tenants = list_tenants(db)
    width = max((len(tenant.tenant_id) for tenant in tenants), default=0)
    for tenant in tenants:
        made = tenant.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        print(f"{tenant.tenant_id:{width}}  {tenant.subscription:8}  {made}  {tenant.name}")


@app.command()
def subscription(
    tenant_id: Annotated[str, typer.Argument(help="The tenant.", metavar="ID")],
    state: Annotated[str | None, typer.Option("--set", help="trial, active, past_due or ended.")] = None,
) -> None:
    """Show a tenant's subscription, or change it; every ingest worker knows within a second."""
    with database() as db:
        if state is not None:
            set_subscription(db, tenant_id, state)
        tenant = get_tenant(db, tenant_id)
        if tenant is None:
            raise ValueError(f"there is no tenant {tenant_id!r}")
    print(f"tenant {tenant.tenant_id}, subscription {tenant.subscription}")
