"""How far a tenant's landing has come, kept where a look at every tenant is one query."""

from __future__ import annotations

from datetime import date, datetime

import polars as pl

from lake.reads import scan
from lake.settings import LakeSettings
from tenancy.database import Database
from tenancy.watermarks import note_landed


def note_watermark(db: Database, tenant: str, batches: pl.DataFrame, settings: LakeSettings) -> None:
    """Note the newest arrival of `batches` (the ledger's, landed), and where any of their lines were quarantined how
    many of that day's are by now. Doing it again changes nothing.
    """  # noqa: D205 - one thought
    newest = batches["received_at"].max()
    if not isinstance(newest, datetime):
        return
    day = _newest_day(batches)
    lines = None if day is None else (day, quarantined(tenant, day, settings))
    note_landed(db, tenant, newest, lines)


def quarantined(tenant: str, day: date, settings: LakeSettings) -> int:
    """Return how many lines of a day's batches ingest rejected or landing refused, by the ledger."""
    rows = scan(tenant, "batches", day, day, settings).filter(pl.col("outcome") == "landed")
    return int(rows.select((pl.col("rejected") + pl.col("quarantined")).sum()).collect().item())


def _newest_day(batches: pl.DataFrame) -> date | None:
    names = ("received_day", "outcome", "rejected", "quarantined")
    told = zip(*(batches[name].to_list() for name in names), strict=True)
    return max((day for day, outcome, *bad in told if outcome == "landed" and sum(bad)), default=None)
