"""`kaimon host`: list a tenant's hosts, and revoke one."""

from __future__ import annotations

from typing import Annotated

import typer

from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert
from tenancy.hosts import list_hosts, revoke_host
from tenancy.subscriptions import moment

app = typer.Typer(help="List a tenant's hosts, and revoke one.", no_args_is_help=True)

TenantOption = Annotated[str, typer.Option(help="The tenant's id.")]


@app.command("list")
def list_(tenant: TenantOption) -> None:
    """List a tenant's hosts, one a line: agent, when enrolled, with which token, state, name."""
    with database() as db:
        hosts = list_hosts(db, tenant)
    for host in hosts:
        state = "live" if host.revoked_at is None else "revoked"
        print(f"{host.agent_id}  {moment(host.enrolled_at)}  {host.token_id}  {state:7}  {inert(host.hostname)}")


@app.command()
def revoke(
    tenant: TenantOption,
    agent_id: Annotated[str, typer.Argument(help="As `host list` shows it: agt_…", metavar="AGENT_ID")],
) -> None:
    """Revoke one host's credential, and no other; refused everywhere within a second."""
    with database() as db:
        was_live = revoke_host(db, tenant, agent_id)
    print(f"host {agent_id} {'revoked' if was_live else 'was revoked before'}")
