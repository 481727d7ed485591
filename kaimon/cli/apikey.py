"""`kaimon apikey`: make, list and revoke keys of the portal's API."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from kaimon.cli.handing import hand_out
from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert
from kaimon.cli.token import TenantOption, moment_of
from tenancy.api_keys import LONGEST, create_api_key, list_api_keys, revoke_api_key

app = typer.Typer(help="Make, list and revoke keys of the portal's API.", no_args_is_help=True)


@app.command()
def create(
    tenant: TenantOption,
    scope: Annotated[list[str], typer.Option(help="What it may do: read:*, write:*, read:hosts, write:tokens, …")],
    label: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    expires_in_days: Annotated[float, typer.Option(help="Days until it is refused.", max=LONGEST.days)] = 90,
    out: Annotated[Path | None, typer.Option(help="Write it to this new file (0600), not to stdout.")] = None,
) -> None:
    """Make a key and show it, this once."""
    with database() as db:
        lifetime = timedelta(days=expires_in_days)
        hand_out(
            out,
            lambda: create_api_key(db, tenant, scope, label, lifetime),
            lambda record: f"key {record.key_id}",
        )


@app.command("list")
def list_(tenant: TenantOption) -> None:
    """List a tenant's keys, one a line: id, beginning and end, state, expiry, last use, scopes, label."""
    with database() as db:
        now = db.clock()
        for key in list_api_keys(db, tenant):
            state = "revoked" if key.revoked_at is not None else "expired" if key.expires_at <= now else "live"
            ends = f"expires {moment_of(key.expires_at)}  used {moment_of(key.last_used_at)}"
            told = (key.key_id, f"{key.prefix}…{key.last_four}", f"{state:7}", ends, ",".join(key.scopes))
            print("  ".join((*told, inert(key.label or ""))).rstrip())


@app.command()
def revoke(
    tenant: TenantOption,
    key_id: Annotated[str, typer.Argument(help="As `apikey list` shows it: key_…", metavar="KEY_ID")],
) -> None:
    """Revoke a key; its next request is refused."""
    with database() as db:
        revoke_api_key(db, tenant, key_id)
    print(f"key {key_id} revoked")
