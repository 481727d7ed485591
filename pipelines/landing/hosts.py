"""The `hosts` table: every agent that ever sent, as its newest landed batch describes it."""

from __future__ import annotations

from typing import Final

import polars as pl

from lake.frames import frame_schema

_NEWEST: Final = (
    "hostname", "claimed_hostname", "os", "kernel", "arch", "cloud", "agent_version", "capture_mode", "blind_spots",
    "boot_id", "load_id",
)  # fmt: skip


def merge_hosts(hosts: pl.DataFrame, batches: pl.DataFrame) -> pl.DataFrame:
    """Return `hosts` with what `batches` (rows of the ledger) add; merging the same batches again changes nothing.

    Only landed batches speak; the newest to arrive describes the host, of those the one with the greatest number.
    """
    news = batches.filter(pl.col("outcome") == "landed").select(
        "agent_id", *_NEWEST, "batch_seq", first_seen="received_at", last_seen="received_at"
    )
    # What the table says of a host comes before any batch of the same moment: it has no number to compare.
    before = hosts.with_columns(batch_seq=pl.lit(0, pl.Int64)).select(news.columns)
    return (
        pl.concat([before, news])
        .sort("last_seen", "batch_seq", maintain_order=True)
        .group_by("agent_id")
        .agg(pl.col(*_NEWEST).last(), pl.col("first_seen").min(), pl.col("last_seen").max())
        .sort("agent_id")
        .select(frame_schema("hosts").names())
    )
