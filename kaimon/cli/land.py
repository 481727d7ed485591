"""`kaimon land`: land what is staged, once, without Dagster; for operators and for a first look."""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Annotated, Final

import typer

from kaimon.base.logs import get_logger
from kaimon.cli.tenant import database
from lake.commits import CommitError
from lake.segments import SegmentError
from lake.settings import LakeSettings
from lake.stores import StoreError, open_store
from pipelines.landing import Landed, RepairError, land_tenant, pending_tenants
from tenancy.database import Database
from tenancy.tenants import list_tenants

_IDLE_S: Final = 1.0
_FAILURES: Final = (CommitError, SegmentError, StoreError, RepairError)


def command(
    tenant: Annotated[str | None, typer.Option(help="Whose segments.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every tenant's.")] = False,
    until_idle: Annotated[
        bool, typer.Option(help="Go on until nothing is staged and no other run has a tenant.")
    ] = False,
) -> None:
    """Land staged segments into the tables, each batch exactly once; safe beside the pipelines."""
    if (tenant is None) is not all_:
        print("error: name one --tenant, or --all", file=sys.stderr)
        raise typer.Exit(2)
    settings = LakeSettings()
    holder = f"cli {socket.gethostname()}/{os.getpid()}"
    with database() as db:
        known = {one.tenant_id for one in list_tenants(db)}
        if tenant is not None and tenant not in known:
            print(f"error: there is no tenant {tenant!r}", file=sys.stderr)
            raise typer.Exit(2)
        failed = False
        while True:
            staged = pending_tenants(db, open_store("staging", settings))
            wanted = [tenant] if tenant is not None else [one for one in staged if one in known]
            landings = [_land(db, one, holder, settings) for one in wanted]
            failed = any(landing is None for landing in landings)
            done = [landing for landing in landings if landing is not None]
            if not until_idle or failed or not any(landing.segments or landing.held_elsewhere for landing in done):
                break
            if any(landing.held_elsewhere for landing in done):
                time.sleep(_IDLE_S)
    if failed:
        raise typer.Exit(1)


def _land(db: Database, tenant: str, holder: str, settings: LakeSettings) -> Landed | None:
    """Land one tenant and say so; its failure is told and stops no other."""
    try:
        landed = land_tenant(db, tenant, holder, settings)
    except _FAILURES as error:
        get_logger(__name__).error("landing_failed", tenant=tenant, error=str(error), kind=type(error).__name__)
        return None
    if landed.held_elsewhere:
        print(f"{tenant}: another run has it")
    else:
        print(
            f"{tenant}: {landed.segments:,} segments, {landed.batches:,} batches, {landed.rows:,} events, "
            f"{landed.duplicates:,} duplicates, {landed.conflicts:,} conflicts, {landed.quarantined:,} in quarantine"
        )
    if landed.clones:
        print(f"{tenant}: two machines send under one agent's id: {', '.join(sorted(landed.clones))}", file=sys.stderr)
    if landed.renamed:
        print(f"{tenant}: a host goes by another name now: {', '.join(sorted(landed.renamed))}", file=sys.stderr)
    return landed
