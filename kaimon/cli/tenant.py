"""`kaimon tenant`: make and list tenants, and what was agreed with them."""

from __future__ import annotations

import getpass
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from sqlalchemy.exc import DBAPIError

from kaimon.base.access import accessing
from kaimon.base.acting import Actor, acting_as
from kaimon.base.aws import AwsError
from kaimon.base.redact import redact
from kaimon.cli.running import running
from tenancy.database import Database, open_database, plainly
from tenancy.keys import UnusableKeyError
from tenancy.migrate import NewerDatabaseError
from tenancy.people import person_of
from tenancy.retention import kept, set_keep_days
from tenancy.subscriptions import moment, subscription_in
from tenancy.tenants import Terms, create_tenant, get_tenant, list_tenants, set_subscription, use_of
from tenancy.wording import allow_model, model_allowed

_DATE: Final = "2026-12-31, or 2026-12-31T18:00:00Z; UTC if it does not say."
_LIMIT: Final = "`default` for the state's own"

app = typer.Typer(help="Make and list tenants.", no_args_is_help=True)


@contextmanager
def database() -> Iterator[Database]:
    """Open the control database for one command; what people can mend is a line on stderr and exit code 2."""
    try:
        with closing(open_database()) as db:
            who = Actor(person_of(db, f"login:{login()}"), f"cli:{os.getpid()}", f"req_{secrets.token_hex(8)}")
            with acting_as(who), accessing("command", *running()):
                yield db
    except DBAPIError as error:
        print(f"error: the control database: {redact(plainly(error))}", file=sys.stderr)
        raise typer.Exit(2) from error
    except (ValueError, AwsError, UnusableKeyError, NewerDatabaseError, OSError) as error:
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
    trial_ends: Annotated[str | None, typer.Option(help=f"When a trial ends: {_DATE}")] = None,
) -> None:
    """Make a tenant; a trial ends by itself, after KAIMON_TRIAL_DAYS if not said otherwise."""
    with database() as db:
        terms: Terms = {} if trial_ends is None else {"trial_ends_at": _date(trial_ends)}
        tenant = create_tenant(db, tenant_id, name, subscription, **terms)
    print(f"tenant {tenant.tenant_id} made, subscription {tenant.subscription}")


@app.command("list")
def list_() -> None:
    """List tenants, one a line: id, subscription as it counts now, when made, name."""
    with database() as db:
        tenants, now = list_tenants(db), db.clock()
        states = [subscription_in(tenant, db.settings).state_at(now) for tenant in tenants]
    width = max((len(tenant.tenant_id) for tenant in tenants), default=0)
    for tenant, state in zip(tenants, states, strict=True):
        print(f"{tenant.tenant_id:{width}}  {state:8}  {moment(tenant.created_at)}  {tenant.name}")


@app.command()
def subscription(  # noqa: PLR0917 - a command's options
    tenant_id: Annotated[str, typer.Argument(help="The tenant.", metavar="ID")],
    state: Annotated[str | None, typer.Option("--set", help="trial, active, past_due or ended.")] = None,
    trial_ends: Annotated[str | None, typer.Option(help=f"When the trial ends: {_DATE}")] = None,
    grace_ends: Annotated[str | None, typer.Option(help=f"When what is past due counts as ended: {_DATE}")] = None,
    max_hosts: Annotated[str | None, typer.Option(help=f"Hosts that it may have; {_LIMIT}.")] = None,
    max_daily_events: Annotated[str | None, typer.Option(help=f"Events that it may send a day; {_LIMIT}.")] = None,
) -> None:
    """Show a tenant's subscription and use, or change it; every ingest worker knows within a second."""
    terms: Terms = {}
    with database() as db:
        if trial_ends is not None:
            terms["trial_ends_at"] = _date(trial_ends)
        if grace_ends is not None:
            terms["grace_ends_at"] = _date(grace_ends)
        if max_hosts is not None:
            terms["max_hosts"] = _limit(max_hosts)
        if max_daily_events is not None:
            terms["max_daily_events"] = _limit(max_daily_events)
        if state is not None or terms:
            set_subscription(db, tenant_id, state, **terms)
        print("\n".join(_shown(db, tenant_id)))


@app.command()
def billing(
    tenant_id: Annotated[str, typer.Argument(help="The tenant.", metavar="ID")],
    customer: Annotated[str | None, typer.Option(help="Which customer of Stripe's it is: cus_….")] = None,
) -> None:
    """Show which customer of Stripe's a tenant is, in KAIMON_STRIPE_MODE, or say so, while it has no subscription."""
    from dashboards.portal.settings import StripeSettings
    from tenancy.billing import customer_of, link_customer

    mode = StripeSettings().stripe_mode
    with database() as db:
        if get_tenant(db, tenant_id) is None:
            raise ValueError(f"there is no tenant {tenant_id!r}")
        if customer is not None:
            link_customer(db, tenant_id, customer, live=mode == "live", instead=True)
        found = customer_of(db, tenant_id, live=mode == "live")
        if customer is not None and found is not None and found.customer_id != customer:
            raise ValueError(f"tenant {tenant_id!r} has a subscription as customer {found.customer_id!r}")
    if found is None:
        print(f"tenant {tenant_id} is no customer ({mode})")
    else:
        print(f"tenant {tenant_id} is {found.customer_id} ({mode}), {found.status or 'nothing heard of it yet'}")


@app.command()
def retention(
    tenant_id: Annotated[str, typer.Argument(help="The tenant.", metavar="ID")],
    days: Annotated[str | None, typer.Option(help="Whole days before today that are kept, or `all`.")] = None,
) -> None:
    """Show how long a tenant's data is kept, or agree on another time; what is older goes the next night."""
    with database() as db:
        if days is not None:
            set_keep_days(db, tenant_id, None if days == "all" else _limit(days))
        tenant = get_tenant(db, tenant_id)
        if tenant is None:
            raise ValueError(f"there is no tenant {tenant_id!r}")
        due = kept(tenant, db)
    print("all days are kept" if due.before is None else f"days from {due.before} on are kept: {tenant.keep_days} days")
    if due.erase_at is not None:
        unless = "its Admin asked for that, and may withdraw it" if due.asked else "if its subscription stays ended"
        print(f"all of it is erased at {moment(due.erase_at)}, {unless}")


@app.command()
def wording(
    tenant_id: Annotated[str, typer.Argument(help="The tenant.", metavar="ID")],
    by: Annotated[str | None, typer.Option("--set", help="model or template.")] = None,
) -> None:
    """Show who words a tenant's summaries, or let a language model do so; without its leave the template does."""
    if by not in {None, "model", "template"}:
        raise typer.BadParameter("want model or template")
    with database() as db:
        if by is not None:
            allow_model(db, tenant_id, allowed=by == "model")
        elif get_tenant(db, tenant_id) is None:
            raise ValueError(f"there is no tenant {tenant_id!r}")
        allowed = model_allowed(db, tenant_id)
    print("a model may word its summaries, where one is set" if allowed else "the template words its summaries")


@app.command()
def erase(
    tenant_id: Annotated[str, typer.Argument(help="The tenant.", metavar="ID")],
    confirm: Annotated[str | None, typer.Option(help="The id again: delete it, for good.", metavar="ID")] = None,
) -> None:
    """Show what is held of a tenant; with --confirm, refuse it from now on and delete all of it, with a receipt."""
    from kaimon.cli import erase as erasing

    with database() as db, stores():
        lines = erasing.show(db, tenant_id) if confirm is None else erasing.erase(db, tenant_id, confirm)
    print("\n".join(lines))


@app.command()
def receipt(
    tenant_id: Annotated[str, typer.Argument(help="The tenant that was erased.", metavar="ID")],
    out: Annotated[Path, typer.Option(help="Write it to this file, and its signature beside it.")],
) -> None:
    """Save the receipt of an erasure; `kaimon keys receipts` gives the key that verifies it."""
    from kaimon.cli import erase as erasing

    with database() as db, stores():
        print("\n".join(erasing.save_receipt(db, tenant_id, out)))


@contextmanager
def stores() -> Iterator[None]:
    """Say in a line what a store or a lease is in the way of."""
    from lake.stores import StoreError
    from tenancy.compact import NotCompactError
    from tenancy.leases import LeaseHeldError

    try:
        yield
    except (StoreError, LeaseHeldError, NotCompactError) as error:
        raise ValueError(f"{error}; try again") from error


def _shown(db: Database, tenant_id: str) -> list[str]:
    """Return the lines that tell of a subscription."""
    tenant, now = get_tenant(db, tenant_id), db.clock()
    if tenant is None:
        raise ValueError(f"there is no tenant {tenant_id!r}")
    agreed, use = subscription_in(tenant, db.settings), use_of(db, tenant_id)
    lines = [f"tenant {tenant_id}, subscription {agreed.state}"]
    if (lapse := agreed.lapse(now)) is not None:
        lines.append(f"refused       {lapse}")
    elif agreed.ends_at is not None:
        what = "trial ends" if agreed.state == "trial" else "grace ends"
        lines.append(f"{what}    {moment(agreed.ends_at)}")
    lines.append(f"hosts         {use.hosts:,} of {_most(agreed.max_hosts)}")
    lines.append(f"events today  {use.events_today:,} of {_most(agreed.max_daily_events)}")
    return lines


def _most(limit: int | None) -> str:
    return "any number" if limit is None else f"{limit:,}"


def _date(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"date {text!r}: want {_DATE}") from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _limit(text: str) -> int | None:
    if text == "default":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"limit {text!r}: want a number, or {_LIMIT}") from error
