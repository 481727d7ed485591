"""`kaimon alert`: what operators are told by mail and webhook."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated

import typer

from kaimon.cli.tenant import database
from tenancy.alerts import Alert, Notice, list_alerts

app = typer.Typer(help="What operators are told by mail and webhook.", no_args_is_help=True)
app.callback()(lambda: None)


@app.command("list")
def list_(
    days: Annotated[int, typer.Option(min=0, help="Those too that were over at most so many days ago.")] = 7,
) -> None:
    """List alerts, oldest first, one a line: when raised, until when, kind, tenant, subject, details."""
    with database() as db:
        alerts = list_alerts(db, db.clock() - timedelta(days=days))
    for alert in alerts:
        raised = alert.raised_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        over = "open" if alert.cleared_at is None else alert.cleared_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        detail = json.dumps(alert.detail, sort_keys=True)
        print(f"{raised}  {over}  {alert.kind}  {alert.tenant_id}  {alert.subject}  {detail}")


@app.command("test")
def test() -> None:
    """Send a test alert on every channel that is set up; exit status 1 if there is none or one does not take it."""
    from kaimon.base.clock import utc_now
    from pipelines.alerts.notify import attempt
    from pipelines.settings import AlertSettings

    settings, now = AlertSettings(), utc_now()
    if not settings.channels:
        print("no channel is set up: KAIMON_ALERT_MAIL_TO, KAIMON_ALERT_WEBHOOK_URL")
        raise typer.Exit(1)
    alert = Alert(f"alr_{int(now.timestamp()):016x}", "-", "test", "channels", {}, now)
    failed = False
    for channel in settings.channels:
        why = attempt([Notice(alert, channel, "raised")], settings, now)
        failed |= why is not None
        print(f"{channel}: {'taken' if why is None else why}")
    if failed:
        raise typer.Exit(1)
