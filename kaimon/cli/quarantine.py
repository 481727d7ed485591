"""`kaimon quarantine`: what was set apart and why, a second try by today's rules, and a release in spite of them."""

from __future__ import annotations

import json as json_
import os
import socket
from collections import Counter
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import polars as pl
import typer

from kaimon.cli.span import asked_span
from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert, write
from lake.commits import Writer, lease_name
from lake.quarantined import still_there
from lake.reads import scan
from lake.segments import encode_segment, segment_key
from lake.settings import LakeSettings
from lake.stores import AlreadyExistsError, open_store
from tenancy.audit import append
from tenancy.database import Database
from tenancy.hints import mark_staged
from tenancy.leases import LeaseHeldError, held_lease
from tenancy.tenants import get_tenant

if TYPE_CHECKING:
    from kaimon.cli.quarantine_replay import Replay

app = typer.Typer(help="Lines that were set apart: list them, try them again, let them out.", no_args_is_help=True)

TenantOption = Annotated[str, typer.Option(help="Whose lines.")]
FromOption = Annotated[
    str | None,
    typer.Option("--from", help="Arrived from this date or ISO 8601 time on; by default 24 hours before --to."),
]
ToOption = Annotated[str | None, typer.Option("--to", help="Arrived before then, or on that date; by default now.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
ApplyOption = Annotated[bool, typer.Option("--apply", help="Do it; without it, only say what would be done.")]
_NODES: Final = ("replay-", "release-")


@app.command("list")
def list_(tenant: TenantOption, from_: FromOption = None, to: ToOption = None, json: JsonOption = False) -> None:
    """List the lines that are in quarantine, in the order of their arrival.

    A line: when it came, agent, load and batch, its line there, code, why, and its beginning.
    """
    first, last = asked_span(from_, to)
    with database() as db:
        _known(db, tenant)
        rows = still_there(_arrived(tenant, first, last)).sort("received_at", "agent_id", "batch_seq", "line")
    for row in rows.drop("received_day").iter_rows(named=True):
        row["received_at"] = row["received_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if json:
            write(inert(json_.dumps(row, ensure_ascii=True)) + "\n")
        else:
            batch = f"{row['load_id']}/{row['batch_seq']}:{row['line']}"
            words = [row["received_at"], row["agent_id"], batch, row["code"], row["detail"], row["raw"][:200]]
            write("  ".join(inert(str(word)) for word in words) + "\n")


@app.command()
def replay(
    tenant: TenantOption,
    from_: FromOption = None,
    to: ToOption = None,
    apply: ApplyOption = False,
    json: JsonOption = False,
) -> None:
    """Hold quarantined lines against today's rules and stage those that pass, to be landed once.

    Says first what would come of it; --apply does it. Lines of a conflicting batch never pass.
    """
    first, last = asked_span(from_, to)
    with database() as db:
        _known(db, tenant)
        done = _replay(db, tenant, (first, last), apply)
    _tell(done, "pass today's rules", json=json)


@app.command()
def release(
    tenant: TenantOption,
    from_: FromOption = None,
    to: ToOption = None,
    apply: ApplyOption = False,
    json: JsonOption = False,
) -> None:
    """Stage lines that are outside landing's window (`out_of_window`) as they are, to be landed once.

    Says first what would come of it; --apply does it. For one who knows why their times are what they are: a host
    whose clock was wrong, or one that was cut off for more than a week.
    """
    first, last = asked_span(from_, to)
    with database() as db:
        _known(db, tenant)
        done = _replay(db, tenant, (first, last), apply, release=True)
    _tell(done, "can be released", json=json)


def _tell(done: dict[str, Any], verdict: str, *, json: bool) -> None:
    if json:
        write(json_.dumps(done) + "\n")
        return
    for code, lines in done["codes"].items():
        write(inert(f"{lines:>9,}  {code}") + "\n")
    after = {"staged": f"staged as {done['segment']}; landing takes them from there", "nothing": "nothing to do"}
    after |= {"dry run": "this was a dry run; --apply stages them"}
    write(f"{done['passing']:,} of {done['lines']:,} lines {verdict}: {after[done['state']]}\n")
    if done["days"]:
        write(f"their days: {', '.join(done['days'])}\n")


def _replay(
    db: Database, tenant: str, arrived: tuple[datetime, datetime], apply: bool, *, release: bool = False
) -> dict[str, Any]:
    from ingest.settings import IngestSettings
    from kaimon.cli.quarantine_replay import prepare

    settings = LakeSettings()
    longest = IngestSettings().max_line_bytes
    if not apply:
        found = prepare(_arrived(tenant, *arrived), _ledger(tenant, *arrived), longest, release=release)
        return _said(found, "dry run", None)
    act = "quarantine.release" if release else "quarantine.replay"
    holder = f"{act} {socket.gethostname()}/{os.getpid()}"
    try:
        # Nothing lands meanwhile: what is in quarantine now is what the segment is made from.
        with held_lease(db, lease_name(tenant), holder, db.settings.lease_ttl_s) as lease:
            _refuse_pending(tenant, lease.fence, settings)
            found = prepare(_arrived(tenant, *arrived), _ledger(tenant, *arrived), longest, release=release)
            if not found.parts:
                return _said(found, "nothing", None)
            key = segment_key(tenant, found.node, 1)
            data = encode_segment(found.node, 1, tenant, found.parts)
            with db.transaction() as session:
                lines = {"lines": found.passing, "batches": len(found.parts)}
                append(db, session, tenant, act, found.node, **lines)
                # The same lines have the same name: a copy is there already, and it lands once.
                with suppress(AlreadyExistsError):
                    open_store("staging", settings).put_new(key, data)
    except LeaseHeldError as error:
        raise ValueError(f"another process writes the tables of {tenant} now; try again") from error
    mark_staged(db, [(tenant, found.node, 1)])
    return _said(found, "staged", key)


def _said(found: Replay, state: str, key: str | None) -> dict[str, Any]:
    codes = Counter(
        f"{line.was}: passes" if line.code is None else f"{line.was}: still {line.code}" for line in found.lines
    )
    state = state if found.passing else "nothing"
    told = {"lines": len(found.lines), "passing": found.passing, "codes": dict(sorted(codes.items()))}
    return {**told, "days": found.days, "state": state, "segment": key}


def _refuse_pending(tenant: str, fence: int, settings: LakeSettings) -> None:
    """Refuse while an earlier replay has not landed: its lines are still in quarantine, and would go twice.

    Raises:
        ValueError: one has not.
    """
    nodes = [name for name in open_store("staging", settings).prefixes(tenant) if name.startswith(_NODES)]
    standing = Writer(tenant, fence, settings).versions("batches", nodes)
    if any(standing[node] < 1 for node in nodes):
        raise ValueError(f"an earlier replay or release has not landed yet; let it: kaimon land --tenant {tenant}")


def _arrived(tenant: str, first: datetime, last: datetime) -> pl.DataFrame:
    rows = scan(tenant, "quarantine", first.date(), last.date())
    return rows.filter(pl.col("received_at") >= first, pl.col("received_at") < last).collect()


def _ledger(tenant: str, first: datetime, last: datetime) -> pl.DataFrame:
    rows = scan(tenant, "batches", first.date(), last.date())
    return rows.filter(pl.col("outcome") == "landed").collect()


def _known(db: Database, tenant: str) -> None:
    if get_tenant(db, tenant) is None:
        raise ValueError(f"there is no tenant {tenant!r}")
