"""`kaimon facts`: every value that a summary rests on, beside what its own SQL gives now."""

from __future__ import annotations

import json
import math
import os
import sys
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated

import typer

from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert
from lake.query import QueryError, run_query
from lake.settings import LakeSettings
from tenancy.leases import LeaseHeldError
from tenancy.tenants import get_tenant


def command(
    tenant: Annotated[str, typer.Option(help="Whose facts.")],
    period: Annotated[str, typer.Option(help="A UTC day, 2026-03-04, or a week from Monday to Sunday, 2026-W10.")],
    json_: Annotated[bool, typer.Option("--json", help="As one JSON object, with the SQL.")] = False,
) -> None:
    """Print each value of a period's newest facts beside its recomputation; exit 1 if one differs.

    A difference means that the tables have changed since: close the day again.
    """
    from pipelines.summaries.day import newest_facts
    from pipelines.summaries.facts import MEDIAN_DAYS
    from pipelines.summaries.period import parse_period
    from pipelines.tables import TenantTables

    with database() as db:
        wanted = parse_period(period)
        if get_tenant(db, tenant) is None:
            raise ValueError(f"there is no tenant {tenant!r}")
        try:
            facts = newest_facts(TenantTables(db, tenant, f"facts {os.getpid()}", LakeSettings()), wanted)
        except LeaseHeldError as error:
            raise ValueError(f"{error}; try again") from error
        if facts is None:
            raise ValueError(f"there are no facts of {period}")
        start = datetime.combine(wanted.start, time(), UTC)
        names = list(facts.values)
        whole = ", ".join(f"({facts.values[name].sql}) AS v{place}" for place, name in enumerate(names))
        try:
            answer = run_query(
                tenant, f"SELECT {whole}", start - timedelta(days=MEDIAN_DAYS), start + timedelta(days=wanted.days)
            )
        except QueryError as error:
            raise ValueError(str(error)) from error
    again = dict(zip(names, map(_number, answer.table.to_pylist()[0].values()), strict=True))
    same = {name: _same(facts.values[name].value, again[name]) for name in names}
    if json_:
        told = {
            name: {"value": value.value, "again": again[name], "same": same[name], "unit": value.unit, "sql": value.sql}
            for name, value in facts.values.items()
        }
        print(json.dumps({"tenant": tenant, "period": facts.period_start, "status": facts.status, "values": told}))
    else:
        for name, value in facts.values.items():
            mark = "=" if same[name] else "DIFFERS"
            print(f"{name:24} {value.display:>14} {mark} {again[name]}  {value.unit}  {inert(value.label)}")
    if not all(same.values()):
        print(f"error: {list(same.values()).count(False)} values differ from the tables", file=sys.stderr)
        raise typer.Exit(1)


def _number(value: float | Decimal | None) -> float | None:
    """A sum of whole numbers comes as a Decimal, which JSON does not know."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _same(kept: float | None, again: float | None) -> bool:
    if kept is None or again is None:
        return kept is again
    return math.isclose(kept, again, rel_tol=1e-9, abs_tol=1e-9)
