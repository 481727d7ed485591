"""`kaimon access`: who touched a tenant's data, through which door, and what came of it."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from kaimon.base.access import Access
from kaimon.cli.span import FromOption, ToOption, asked_span
from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert, write
from lake.access_reads import read_access
from lake.stores import StoreError, open_store


def command(
    tenant: Annotated[str | None, typer.Option(help="Only what was done to this tenant's data.")] = None,
    from_: FromOption = None,
    to: ToOption = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with every field.")] = False,
) -> None:
    """Print the access log, oldest first: every API call, storage access, run of a step and command.

    A line: when, kind, who, what, tenant and object, outcome, from where, request id, bytes.
    """
    first, last = asked_span(from_, to)
    encode = msgspec.json.Encoder().encode
    try:
        with database():
            for record in read_access(open_store("audit"), first, last, tenant):
                write(inert(encode(record).decode() if json else _line(record)) + "\n")
    except StoreError as error:
        # The night merges small objects into large ones: what was listed may be gone.
        print(f"error: {inert(str(error))}: cannot be read, or was merged just now; ask again", file=sys.stderr)
        raise typer.Exit(2) from error


def _line(record: Access) -> str:
    about = "/".join(part for part in (record.tenant, record.object) if part)
    if record.kind == "storage" and record.object and record.object.startswith(f"{record.tenant}/"):
        about = record.object
    at = record.at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{record.at.microsecond // 1000:03d}Z"
    words = [at, record.kind, record.who or "?", record.what, about or "-", record.outcome]
    words += [record.origin or "-", record.request_id or "-"]
    words += [f"{record.bytes} B"] if record.bytes is not None else []
    words += [f"{record.count} records"] if record.kind == "log" else []
    return "  ".join(words)
