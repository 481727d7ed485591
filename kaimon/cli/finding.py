"""`kaimon finding`: what the rules found, what is dealt with, and what is not to be reported."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import polars as pl
import typer

from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert
from lake.reads import scan
from pipelines.findings.rules import by_name
from tenancy.findings import close_finding, end_suppression, suppress, suppressions

app = typer.Typer(help="What the rules found, and what is done about it.", no_args_is_help=True)

TenantOption = Annotated[str, typer.Option(help="The tenant's id.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept with it.")]
DayOption = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day, UTC; by default yesterday.")]


@app.command("list")
def list_(tenant: TenantOption, day: DayOption = None) -> None:
    """List a day's findings, the gravest first, one a line: id, severity, state, rule, host, program, user, file."""
    with database():
        wanted = _day(day)
        found = scan(tenant, "findings").filter(pl.col("event_day") == wanted).collect()
    grave = ["critical", "high", "medium", "low"]
    ordered = sorted(found.iter_rows(named=True), key=lambda row: (grave.index(row["severity"]), row["finding_id"]))
    for row in ordered:
        who = [inert(str(row[name] or "-")) for name in ("hostname", "process", "user", "path")]
        print("  ".join((row["finding_id"], f"{row['severity']:8}", f"{row['state']:10}", row["rule"], *who)))


@app.command()
def close(
    tenant: TenantOption,
    finding_id: Annotated[str, typer.Argument(help="As `finding list` shows it: fnd_…", metavar="FINDING_ID")],
    reason: ReasonOption,
) -> None:
    """Say that a finding is dealt with; if it comes again, it is a new one."""
    with database() as db:
        close_finding(db, tenant, finding_id, reason)
    print(f"finding {finding_id} closed")


@app.command("suppress")
def suppress_(  # noqa: PLR0917 - a command's options
    tenant: TenantOption,
    rule: Annotated[str, typer.Argument(help="As `finding list` shows it.", metavar="RULE")],
    reason: ReasonOption,
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Its last day, at most a year from now.")],
    host: Annotated[str | None, typer.Option(help="Only this agent: agt_…")] = None,
    exe: Annotated[str | None, typer.Option(help="Only this program, by its path.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user, by name.")] = None,
    path_prefix: Annotated[str | None, typer.Option(help="Only files whose path begins so.")] = None,
) -> None:
    """Do not report what all the given options fit. At least one of the four is needed."""
    with database() as db:
        if rule not in by_name():
            raise ValueError(f"there is no rule {rule!r}; there are {', '.join(by_name())}")
        made = suppress(
            db, tenant, rule, reason, until.date(), agent_id=host, exe=exe, user=user, path_prefix=path_prefix
        )
    print(made.suppression_id)


@app.command()
def suppressed(tenant: TenantOption) -> None:
    """List suppressions, one a line: id, last day, state, rule, what it is for, reason."""
    with database() as db:
        today, found = db.clock().date(), suppressions(db, tenant)
    for one in found:
        state = "ended" if one.ended_at else "expired" if one.expires_on < today else "in force"
        narrow = {"host": one.agent_id, "exe": one.exe, "user": one.user, "path": one.path_prefix}
        told = " ".join(f"{name}={inert(value)}" for name, value in narrow.items() if value is not None)
        print(f"{one.suppression_id}  {one.expires_on}  {state:8}  {one.rule}  {told}  {inert(one.reason)}")


@app.command()
def unsuppress(
    tenant: TenantOption,
    suppression_id: Annotated[str, typer.Argument(help="As `finding suppressed` shows it.", metavar="SUPPRESSION_ID")],
) -> None:
    """Let a rule report again from now on."""
    with database() as db:
        end_suppression(db, tenant, suppression_id)
    print(f"suppression {suppression_id} ended")


@app.command()
def rules() -> None:
    """List the rules, one a line: severity, ATT&CK technique and version, name, title."""
    for rule in by_name().values():
        print(f"{rule.severity:8}  {rule.attack_id:9}  {rule.attack_version}  {rule.name}  {rule.title}")


def _day(day: datetime | None) -> date:
    return datetime.now(UTC).date() - timedelta(days=1) if day is None else day.date()
