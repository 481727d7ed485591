"""`kaimon backfill`: compute days anew from their events: seal, checks, rollups, facts."""

from __future__ import annotations

import json as json_
import os
import socket
import sys
from datetime import date
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

    Says what it would touch; --confirm does it. Exit 1 if a day's rows are not those that were sealed, or its checks
    fail: that day is left as it is, and the others go on.
    """
    from pipelines.backfill import backfill_day, survey_day
    from pipelines.resources import Platform
    from pipelines.seal import ChecksumError

    with database() as db:
        check_confirmed(db, tenant, confirm)
        platform = Platform()
        tables = platform.tables(db, tenant, f"backfill {socket.gethostname()}/{os.getpid()}")
        failed = False
        for day in asked_days(from_, to):
            try:
                found = survey_day(tables, day) if confirm is None else backfill_day(platform, tables, day)
            except (
                ChecksumError, CommitError, LeaseHeldError, StoreError, RuntimeError, OSError, pl.exceptions.PolarsError
            ) as error:  # fmt: skip
                failed = True
                _tell(day, f"{'DIFFERENT: ' if isinstance(error, ChecksumError) else ''}{error}", json=json)
                continue
            write(json_.dumps(_document(found)) + "\n" if json else "".join(f"{line}\n" for line in _lines(found)))
            if wrong := _wrong(found):
                failed = True
                print(f"error: {wrong}", file=sys.stderr)
    if confirm is None and not json:
        write(f"nothing was changed. To compute these days anew: the same, with --confirm {tenant}\n")
    if failed:
        raise typer.Exit(1)


def _tell(day: date, error: str, *, json: bool) -> None:
    said = error if str(day) in error else f"{day}: {error}"
    print(f"error: {inert(said)}", file=sys.stderr)
    if json:
        write(json_.dumps({"day": day.isoformat(), "error": said}) + "\n")


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
