"""`kaimon verify`: recompute from the tables that every event is accounted for, and say where one is not."""

from __future__ import annotations

import json
import os
import sys
from datetime import date, datetime
from typing import Annotated

import typer

from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert
from lake.settings import LakeSettings
from tenancy.leases import LeaseHeldError
from tenancy.tenants import get_tenant

_FORM = ["%Y-%m-%d"]


def command(
    tenant: Annotated[str, typer.Option(help="Whose tables.")],
    from_: Annotated[datetime, typer.Option("--from", help="The first UTC day.", formats=_FORM)],
    to: Annotated[datetime, typer.Option(help="The last UTC day.", formats=_FORM)],
    json_: Annotated[bool, typer.Option("--json", help="As one JSON object, every host-hour in it.")] = False,
) -> None:
    """Recompute both equations from events, quarantine and ledger alone; exit 1 where they do not hold.

    What is known lost, and hours in which a host was silent, are said line by line; they do not break the proof.
    """
    from pipelines.tables import TenantTables
    from pipelines.verify import verify

    with database() as db:
        if get_tenant(db, tenant) is None:
            raise ValueError(f"there is no tenant {tenant!r}")
        tables = TenantTables(db, tenant, f"verify {os.getpid()}", LakeSettings())
        try:
            proof = verify(tables, _day(from_), _day(to))
        except LeaseHeldError as error:
            raise ValueError(f"{error}; try again") from error
    if json_:
        print(json.dumps(proof.document() | {"tenant": tenant}))
    else:
        print("\n".join(inert(line) for line in proof.lines()))
    if not proof.holds:
        print("error: the proof does not hold", file=sys.stderr)
        raise typer.Exit(1)


def _day(moment: datetime) -> date:
    return moment.date()
