"""`kaimon report`: when summaries are mailed, and to whom."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert
from tenancy.mails import mails
from tenancy.recipients import confirm, recipients, record_bounce, remove_recipient, unsubscribe
from tenancy.schedules import Schedule, set_schedule

app = typer.Typer(help="When summaries are mailed, and to whom.", no_args_is_help=True)

TenantOption = Annotated[str, typer.Option(help="The tenant's id.")]
RecipientArgument = Annotated[
    str, typer.Argument(help="As `report recipients` shows it: rcp_…", metavar="RECIPIENT_ID")
]


@app.command()
def schedule(
    tenant: TenantOption,
    daily: Annotated[bool, typer.Option(help="Mail each day's summary.")] = True,
    weekly: Annotated[bool, typer.Option(help="Mail each week's summary.")] = False,
    time_zone: Annotated[str, typer.Option(help="Whose clock counts, such as America/New_York.")] = "UTC",
    hour: Annotated[int, typer.Option(min=0, max=23, help="From which hour on by that clock.")] = 7,
) -> None:
    """Say when a tenant's summaries are mailed; `--no-daily` and `--no-weekly` is never."""
    with database() as db:
        set_schedule(db, Schedule(tenant, daily, weekly, time_zone, hour))
    print(f"tenant {tenant}: daily {_yes(daily)}, weekly {_yes(weekly)}, from {hour:02}:00 {time_zone}")


@app.command()
def add(tenant: TenantOption, address: Annotated[str, typer.Argument(help="Mail address.")]) -> None:
    """Invite an address: it is mailed a link, and gets summaries once its reader has confirmed."""
    from kaimon.base.mail import MailError
    from kaimon.base.settings import MailSettings
    from tenancy.inviting import invite

    with database() as db:
        try:
            print(invite(db, tenant, address, MailSettings()).recipient_id)
        except MailError as error:
            raise ValueError(str(error)) from error


@app.command("recipients")
def recipients_(tenant: TenantOption) -> None:
    """List a tenant's recipients, one a line: id, state, bounces, address."""
    with database() as db:
        for one in recipients(db, tenant):
            print(f"{one.recipient_id}  {one.state:12}  {one.bounces}  {inert(one.address)}")


def _asked(what: str) -> str:
    """Read a secret of a mailed link: on a command line, everybody on the machine could read it."""
    told: str = typer.prompt(what, hide_input=sys.stdin.isatty(), err=True)
    return told.strip()


@app.command("confirm")
def confirm_() -> None:
    """Confirm for a recipient who cannot open the link; asks for the code of the link that was mailed."""
    with database() as db:
        found = confirm(db, _asked("Code"))
        if found is None:
            raise ValueError("no recipient waits for this code, or it is too old")
    print(f"recipient {found.recipient_id} confirmed")


@app.command("unsubscribe")
def unsubscribe_(recipient_id: RecipientArgument) -> None:
    """Stop for a recipient who cannot open the link; asks for the token of their link."""
    with database() as db:
        if not unsubscribe(db, recipient_id, _asked("Token")):
            raise ValueError("this token is not theirs")
    print(f"recipient {recipient_id} gets no more")


@app.command()
def remove(tenant: TenantOption, recipient_id: RecipientArgument) -> None:
    """Send a recipient nothing more."""
    with database() as db:
        remove_recipient(db, tenant, recipient_id)
    print(f"recipient {recipient_id} removed")


@app.command()
def bounce(
    recipient_id: RecipientArgument,
    permanent: Annotated[bool, typer.Option(help="The address takes nothing any more.")] = False,
) -> None:
    """Record that a mail came back."""
    with database() as db:
        print(f"recipient {recipient_id} {record_bounce(db, recipient_id, permanent=permanent).state}")


@app.command("mails")
def mails_(tenant: TenantOption) -> None:
    """List mails, one a line: period, its start, revision, recipient, state, attempts, error."""
    with database() as db:
        for one in mails(db, tenant):
            told = (one.period, one.period_start.isoformat(), f"r{one.revision}", one.recipient_id, one.state)
            print("  ".join((*told, str(one.attempts), one.error or "-")))


def _yes(value: bool) -> str:
    return "yes" if value else "no"
