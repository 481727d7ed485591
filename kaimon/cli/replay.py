"""`kaimon replay`: land days once more from what is staged, and hold them against the table's checksum."""

from __future__ import annotations

import json as json_
import os
import socket
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kaimon.cli.again import ConfirmOption, JsonOption, TenantOption, check_confirmed
from kaimon.cli.span import FirstDay, LastDay, asked_days
from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert, write
from lake.commits import CommitError
from lake.segments import SegmentError
from lake.settings import LakeSettings
from lake.stores import StoreError
from tenancy.leases import LeaseHeldError

if TYPE_CHECKING:
    from pipelines.replay import Replayed


def command(
    *,
    tenant: TenantOption,
    from_: FirstDay,
    to: LastDay,
    confirm: ConfirmOption = None,
    even_if_different: Annotated[
        bool, typer.Option("--even-if-different", help="Also where the table has other rows: to mend it.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Land days that are over again, from the staged segments that the ledger names, to the same checksum.

    Says what it would touch; --confirm does it. A day whose segments are not all staged is refused. Exit 1 if a day was
    refused, or came to another checksum than the table or its seal has.
    """
    from pipelines.replay import ReplayError, different, replay_day
    from pipelines.seal import ChecksumError
    from pipelines.tables import TenantTables

    with database() as db:
        check_confirmed(db, tenant, confirm)
        tables = TenantTables(db, tenant, f"replay {socket.gethostname()}/{os.getpid()}", LakeSettings())
        failed = False
        for day in asked_days(from_, to):
            try:
                found = replay_day(tables, day, apply=confirm is not None, even_if_different=even_if_different)
            except (ReplayError, ChecksumError, CommitError, LeaseHeldError, SegmentError, StoreError) as error:
                failed = True
                print(f"error: {inert(str(error))}", file=sys.stderr)
                if json:
                    write(json_.dumps({"day": day.isoformat(), "error": str(error)}) + "\n")
                continue
            write(json_.dumps(_document(found)) + "\n" if json else "".join(f"{line}\n" for line in _lines(found)))
            if not found.same:
                failed = True
                print(f"error: {different(found)}", file=sys.stderr)
    if confirm is None and not json:
        write(f"nothing was changed. To land these days again: the same, with --confirm {tenant}\n")
    if failed:
        raise typer.Exit(1)


def _lines(found: Replayed) -> list[str]:
    done = f"; landed again in {found.new_files:,} files" if found.applied else ""
    found_here = (
        f"{found.day}  {found.segments:,} segments of {found.segment_bytes:,} bytes: {found.rows:,} rows, "
        f"{found.events:,} events; the table has {found.table_rows:,} rows in {found.files:,} files{done}"
    )
    return [
        found_here,
        f"            staged        {found.checksum}",
        f"            in the table  {found.table or 'cannot be read'}",
        f"            at its seal   {found.kept or '-'}",
    ]


def _document(found: Replayed) -> dict[str, object]:
    return {**vars(found), "day": found.day.isoformat(), "same": found.same}
