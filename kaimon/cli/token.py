"""`kaimon token`: make, list and revoke enrollment tokens."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from kaimon.cli.handing import hand_out
from kaimon.cli.tenant import database
from tenancy.enrollment import EnrollmentToken, create_token, list_tokens, revoke_token

app = typer.Typer(help="Make, list and revoke enrollment tokens.", no_args_is_help=True)

TenantOption = Annotated[str, typer.Option(help="The tenant's id.")]


@app.command()
def create(
    tenant: TenantOption,
    label: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    expires_in_days: Annotated[float | None, typer.Option(help="Days until it no longer enrolls.", max=36_500)] = None,
    max_uses: Annotated[int | None, typer.Option(help="How many hosts it may enroll.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write it to this new file (0600), not to stdout.")] = None,
) -> None:
    """Make an enrollment token and show it, this once."""
    with database() as db:
        lifetime = None if expires_in_days is None else timedelta(days=expires_in_days)
        hand_out(
            out,
            lambda: create_token(db, tenant, label, lifetime, max_uses),
            lambda record: f"token {record.token_id}",
        )


@app.command("list")
def list_(tenant: TenantOption) -> None:
    """List a tenant's tokens, one a line: id, beginning and end, state, uses, expiry, last use, label."""
    with database() as db:
        now = db.clock()
        for token in list_tokens(db, tenant):
            uses = f"{token.uses}/{'∞' if token.max_uses is None else token.max_uses}"
            ends = f"expires {moment_of(token.expires_at)}  used {moment_of(token.last_used_at)}"
            shown = f"{token.prefix}…{token.last_four}"
            print(f"{token.token_id}  {shown}  {_state(token, now):7}  {uses:>7}  {ends}  {token.label or ''}".rstrip())


@app.command()
def revoke(
    tenant: TenantOption,
    token_id: Annotated[str, typer.Argument(help="As `token list` shows it: tok_…", metavar="TOKEN_ID")],
) -> None:
    """Revoke a token and every host credential it issued; refused everywhere within a second."""
    with database() as db:
        ended = revoke_token(db, tenant, token_id)
    print(f"token {token_id} revoked, and {ended} host credential{'' if ended == 1 else 's'} with it")


def _state(token: EnrollmentToken, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is not None and token.expires_at <= now:
        return "expired"
    if token.max_uses is not None and token.uses >= token.max_uses:
        return "used up"
    return "live"


def moment_of(moment: datetime | None) -> str:
    """Return a moment as people read it, to the second; `never` if there is none."""
    return "never" if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
