"""`kaimon keys`: the keys that seal and index tokens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kaimon.cli.tenant import database
from tenancy.keyring import DATA
from tenancy.receipts import public_pem, receipt_key
from tenancy.roots import FILE
from tenancy.rotation import Brought, list_keys, reseal, rotate, rotate_index
from tenancy.tenant_keys import assign_key

app = typer.Typer(help="List and rotate the keys that seal and index tokens.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """List keys, oldest first, one a line: id, purpose, state, when made, records sealed with it, what wraps it."""
    with database() as db:
        db.keys.prepare()
        keys = list_keys(db)
    for key, records in keys:
        state = "current" if key.retired_at is None else "retired"
        made = key.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        by = "key file" if key.wrapped_by == FILE else key.wrapped_by
        sealed = f"{records:>7}" if key.purpose == DATA else f"{'-':>7}"
        print(f"{key.key_id}  {key.purpose:5}  {state}  {made}  {sealed}  {by}")


@app.command("rotate")
def rotate_(
    index: Annotated[
        bool, typer.Option("--index", help="Make a new index key, too, and index every token anew.")
    ] = False,
) -> None:
    """Make a new data key, wrapped as KAIMON_KMS_KEY_ID says now, and seal every token with it.

    Hosts and tokens go on as they were.
    """
    with database() as db:
        made, brought = rotate(db)
        print(f"data key {made} made")
        _say(brought)
        if index:
            made, records = rotate_index(db)
            print(f"index key {made} made, {records} tokens indexed by it")


@app.command("reseal")
def reseal_() -> None:
    """Finish a rotation that was cut off: seal with the current data key whatever another one sealed."""
    with database() as db:
        _say(reseal(db))


@app.command("assign")
def assign_(
    tenant: Annotated[str, typer.Argument(help="The tenant.", metavar="ID")],
    kms_key: Annotated[str, typer.Option(help="The KMS key: id, ARN or alias.")],
) -> None:
    """Make a KMS key a tenant's own: its erasure schedules the key's deletion."""
    with database() as db:
        print(f"tenant {tenant} has {assign_key(db, tenant, kms_key)}")


@app.command("receipts")
def receipts_(out: Annotated[Path | None, typer.Option(help="Write it to this file, not to stdout.")] = None) -> None:
    """Print the public key that verifies receipts of erasures, as PEM; publish it where customers find it."""
    with database() as db:
        text = public_pem(receipt_key(db.settings).public_key())
    if out is None:
        print(text, end="")
    else:
        out.write_text(text)


def _say(brought: Brought) -> None:
    for key in brought.forgotten:
        print(f"data key {key} forgotten: nothing is sealed with it")
    print(f"{brought.records} tokens sealed anew")
    if brought.broken:
        print(f"error: {len(brought.broken)} sealed records do not open: {', '.join(brought.broken)}", file=sys.stderr)
        raise typer.Exit(1)
