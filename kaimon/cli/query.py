"""`kaimon query`: ask a tenant's tables; rows on standard output, what they can speak of on standard error."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from kaimon.base.clock import utc_now
from kaimon.cli.span import FromOption, ToOption, span
from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert, render, write
from lake.query import QueryError, run_query
from tenancy.database import Database
from tenancy.tenants import get_tenant


class Form(StrEnum):
    """How rows are printed."""

    table = "table"
    json = "json"
    csv = "csv"


def command(
    sql: Annotated[str, typer.Argument(help="One SELECT, in DuckDB's dialect.", metavar="SQL")],
    tenant: Annotated[str, typer.Option(help="Whose tables.")],
    from_: FromOption = None,
    to: ToOption = None,
    form: Annotated[Form, typer.Option("--format", help="How rows are printed.")] = Form.table,
) -> None:
    """Run one SELECT over a tenant's tables.

    Tables: events, batches, quarantine, hosts, completeness, activity, top_paths, processes, users, sensitive,
    new_behaviour, seals, facts, summaries, deliveries. All but hosts hold only what lies between --from and --to.
    """
    try:
        first, last = span(from_, to, utc_now())
        with database() as db:
            _known(db, tenant)
            result = run_query(tenant, sql, first, last)
    except (QueryError, ValueError) as error:
        print(f"error: {inert_lines(str(error))}", file=sys.stderr)
        raise typer.Exit(2) from error
    write(render(result.columns, result.rows(), form.value))
    if result.truncated:
        print("more rows than a query may return: the rest was cut off", file=sys.stderr)
    print(inert(str(result.coverage)), file=sys.stderr)


def _known(db: Database, tenant: str) -> None:
    if get_tenant(db, tenant) is None:
        raise QueryError(f"there is no tenant {tenant!r}")


def inert_lines(text: str) -> str:
    """Return a message of several lines with each made inert."""
    return "\n".join(inert(line) for line in text.expandtabs(4).split("\n"))
