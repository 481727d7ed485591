"""`kaimon touches`: who touched a path, over many days, and how much of what happened in them is known."""

from __future__ import annotations

import json as json_
import sys
from datetime import timedelta
from typing import Annotated, Final

import polars as pl
import typer

from kaimon.base.clock import utc_now
from kaimon.cli.span import FromOption, ToOption, asked_span
from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert, render, write
from lake.coverage import coverage
from lake.settings import LakeSettings
from tenancy.tenants import get_tenant

_SHOWN: Final = (
    "time", "hostname", "operation", "path", "target_path", "result", "count", "user", "login_uid", "process", "exe",
    "pid",
)  # fmt: skip
_TIMES: Final = "%Y-%m-%dT%H:%M:%S%.6fZ"


def command(
    tenant: Annotated[str, typer.Option(help="Whose events.")],
    path: Annotated[str, typer.Option(help="Absolute, as the tables have it: odd bytes are \\xNN.")],
    from_: FromOption = None,
    to: ToOption = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, every column in it.")] = False,
) -> None:
    """List what happened to one path, and what led to it (renames, links, symlinks), by time.

    Fast over sealed days, however many: what cannot hold the path is not opened. What the answer can speak of stands
    below it.
    """
    from lake.lookup import touches

    first, last = asked_span(from_, to)
    settings = LakeSettings()
    with database() as db:
        if get_tenant(db, tenant) is None:
            raise ValueError(f"there is no tenant {tenant!r}")
        if not path.startswith("/"):
            raise ValueError(f"--path wants an absolute path, not {path!r}")
        found = touches(tenant, path, first.date(), (last - timedelta(microseconds=1)).date(), settings)
        found = found.filter(pl.col("time") >= first, pl.col("time") < last)
        known = coverage(tenant, first, last, utc_now(), settings)
    rows = found.head(settings.query_row_limit).with_columns(
        pl.col(pl.Datetime).dt.strftime(_TIMES), pl.col(pl.Date).cast(pl.String)
    )
    if json:
        document = {
            "path": path, "from": first.isoformat(), "to": last.isoformat(), "found": found.height,
            "touches": rows.to_dicts(), "coverage": str(known),
        }  # fmt: skip
        write(json_.dumps(document) + "\n")
        return
    write(render(_SHOWN, rows.select(_SHOWN).rows(), "table"))
    if found.height > rows.height:
        print(f"{found.height:,} rows were found: the rest was cut off", file=sys.stderr)
    print(inert(str(known)), file=sys.stderr)
