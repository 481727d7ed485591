"""`kaimon backfill`: compute days anew from their events: seal, checks, rollups, facts; then their weeks' facts."""

from __future__ import annotations

import json as json_
import os
import socket
import sys
from typing import TYPE_CHECKING

import polars as pl
import typer

from kaimon.cli.again import ConfirmOption, JsonOption, TenantOption, check_confirmed
from kaimon.cli.span import FirstDay, LastDay, asked_days
from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert, write
from lake.commits import CommitError
from lake.stores import StoreError
from tenancy.leases import LeaseHeldError

if TYPE_CHECKING:
    from pipelines.backfill import Backfilled


def command(
    tenant: TenantOption,
    from_: FirstDay,
    to: LastDay,
    confirm: ConfirmOption = None,
    json: JsonOption = False,
) -> None:
    """Compute days anew from `events`: seal, checks, rollups and facts, a day at a time, the first one first.

    Then the facts of each week that they are in, if it has been told.

    Says what it would touch; --confirm does it. Exit 1 if a day's rows are not those that were sealed, or its checks
    fail: that day is left as it is, and the others go on.
    """
    from pipelines.backfill import backfill_day, backfill_week, survey_day, weeks_told
    from pipelines.resources import Platform
    from pipelines.seal import ChecksumError

    with database() as db:
        check_confirmed(db, tenant, confirm)
        platform = Platform()
        tables = platform.tables(db, tenant, f"backfill {socket.gethostname()}/{os.getpid()}")
        failed = False
        days = asked_days(from_, to)
        for day in days:
            try:
                found = survey_day(tables, day) if confirm is None else backfill_day(platform, tables, day)
            except (
                ChecksumError, CommitError, LeaseHeldError, StoreError, RuntimeError, OSError, pl.exceptions.PolarsError
            ) as error:  # fmt: skip
                failed = True
                _tell(str(day), f"{'DIFFERENT: ' if isinstance(error, ChecksumError) else ''}{error}", json=json)
                continue
            write(json_.dumps(_document(found)) + "\n" if json else "".join(f"{line}\n" for line in _lines(found)))
            if wrong := _wrong(found):
                failed = True
                print(f"error: {wrong}", file=sys.stderr)
        for week in weeks_told(tables, days):
            try:
                new = None if confirm is None else backfill_week(tables, week)
            except (CommitError, LeaseHeldError, StoreError, OSError, pl.exceptions.PolarsError) as error:
                failed = True
                _tell(week.name, str(error), json=json)
                continue
            write(json_.dumps({"week": week.name, "new_facts": new}) + "\n" if json else f"{_week(week.name, new)}\n")
    if confirm is None and not json:
        write(f"nothing was changed. To compute these days anew: the same, with --confirm {tenant}\n")
    if failed:
        raise typer.Exit(1)


def _tell(period: str, error: str, *, json: bool) -> None:
    said = error if period in error else f"{period}: {error}"
    print(f"error: {inert(said)}", file=sys.stderr)
    if json:
        write(json_.dumps({"week" if "W" in period else "day": period, "error": said}) + "\n")


def _week(name: str, new: int | None) -> str:
    became = "would be computed anew" if new is None else "are new" if new else "are the same"
    return f"{name}    a week told: its facts {became}"


def _wrong(found: Backfilled) -> str | None:
    if not found.same:
        return f"{found.day}: DIFFERENT: its rows come to {found.checksum}; {found.kept} was kept at its seal"
    if found.broken:
        return f"{found.day}: its checks failed, so no rollup was touched: {', '.join(found.broken)}"
    return None


def _lines(found: Backfilled) -> list[str]:
    rolled = ", ".join(f"{name} {rows:,}" for name, rows in found.tables.items())
    done = ""
    if found.applied:
        done = f"; sealed anew in {found.sealed_files:,} files, {'new' if found.new_facts else 'the same'} facts"
    found_here = (
        f"{found.day}  {found.rows:,} rows, {found.events:,} events in {found.files:,} files of {found.bytes:,} bytes; "
        f"{found.state}{done}"
    )
    return [
        found_here,
        f"            its rows     {found.checksum}",
        f"            at its seal  {found.kept or '-'}",
        f"            rows of      {rolled}",
    ]


def _document(found: Backfilled) -> dict[str, object]:
    return {**vars(found), "day": found.day.isoformat(), "same": found.same}
