"""`kaimon alarm`: what an operator must look at."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from kaimon.cli.tenant import database
from tenancy.alarms import list_alarms

app = typer.Typer(help="What an operator must look at.", no_args_is_help=True)
app.callback()(lambda: None)


@app.command("list")
def list_(tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None) -> None:
    """List alarms, oldest first, one a line: when raised, tenant, kind, agent, details."""
    with database() as db:
        alarms = list_alarms(db, tenant)
    for alarm in alarms:
        raised = alarm.raised_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        detail = json.dumps(alarm.detail, sort_keys=True)
        print(f"{raised}  {alarm.tenant_id}  {alarm.kind}  {alarm.agent_id}  {detail}")
