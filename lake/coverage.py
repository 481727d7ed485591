"""How much of what happened in a range of time the tables can speak of, by the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

import polars as pl

from lake.columns import CAUSES
from lake.reads import scan
from lake.settings import LakeSettings

SILENCE: Final = timedelta(seconds=90)
"""An agent sends every 30 s even if nothing happens; one that missed three may have missed anything."""

_LOAD: Final = ["agent_id", "load_id"]
_LOOK_BACK: Final = timedelta(days=1)
"""How far before the range a load's batch is looked for, from which the range's counters are told."""


@dataclass(frozen=True)
class Coverage:
    """What is known of a range: batches cut in it, what their counters say, and who is silent.

    `seen` and `lost` are events; a load whose counters before the range are not known counts from its first batch
    in it. `missing` are batch numbers that never landed; `silent` are hosts that stopped without a goodbye, in the
    range or before it; `unknown_hours` are the hours of a host for a part of which no batch vouches. `newest` is when
    the newest batch arrived.
    """

    first: datetime
    last: datetime
    hosts: int
    batches: int
    seen: int
    lost: int
    missing: int
    quarantined: int
    silent: int
    unknown_hours: int
    newest: datetime | None

    def __str__(self) -> str:
        """Return the statement that goes with every answer."""
        span = f"{self.first:%Y-%m-%dT%H:%M:%SZ} to {self.last:%Y-%m-%dT%H:%M:%SZ}"
        unknown = _count(self.unknown_hours, "host-hour")
        silent = _count(self.silent, "silent host")
        if self.newest is None:
            return f"coverage {span}: nothing is known, no batch was cut in it; {unknown} unknown, {silent}"
        share = f"{_percent(self.seen - self.lost, self.seen)} of what was seen"
        missing = _count(self.missing, "missing batch", "missing batches")
        return (
            f"coverage {span}: {share}; {self.lost:,} known lost, {unknown} unknown; {_count(self.seen, 'event')} of "
            f"{_count(self.hosts, 'host')}, {missing}, {silent}, {_count(self.quarantined, 'row')} in quarantine; "
            f"newest data of {self.newest:%Y-%m-%dT%H:%M:%SZ}"
        )


def coverage(tenant: str, first: datetime, last: datetime, now: datetime, settings: LakeSettings) -> Coverage:
    """Return what a tenant's ledger says of [`first`, `last`), at `now`; all aware, in UTC."""
    ledger = scan(tenant, "batches", (first - _LOOK_BACK).date(), (last + _LOOK_BACK).date(), settings=settings).filter(
        pl.col("outcome") == "landed", pl.col("sent_at") < last
    )
    numbers = _numbers(ledger).collect()
    hosts = scan(tenant, "hosts", settings=settings).filter(pl.col("first_seen") < last)
    heard = numbers.lazy().filter(pl.col("sent_at") >= first)
    absent = hosts.join(heard, on="agent_id", how="anti").select("agent_id", "last_seen").collect()
    return told(numbers, _without_goodbye(tenant, absent, last, settings), first, last, now)


def _without_goodbye(tenant: str, absent: pl.DataFrame, last: datetime, settings: LakeSettings) -> int:
    """Count hosts whose newest batch, however long ago, was no goodbye."""
    if absent.is_empty():
        return 0
    ledger = scan(tenant, "batches", min(absent["last_seen"].to_list()).date(), last.date(), settings=settings)
    left = (
        ledger.filter(pl.col("outcome") == "landed", pl.col("sent_at") < last)
        .join(absent.lazy(), on="agent_id", how="semi")
        .group_by("agent_id")
        .agg(pl.col("final").sort_by("sent_at", "batch_seq").last())
        .filter("final")
        .select(pl.len())
        .collect()
    )
    return absent.height - int(left.item())


def _numbers(ledger: pl.LazyFrame) -> pl.LazyFrame:
    element = pl.element()
    lost = [element.struct.field("lost_events").struct.field(cause) for cause in CAUSES]
    counters = pl.col("counters")
    return ledger.select(
        *_LOAD,
        "batch_seq",
        "sent_at",
        "received_at",
        "final",
        "quarantined",
        seen=counters.list.eval(element.struct.field("seen")).list.sum(),
        lost=counters.list.eval(pl.sum_horizontal(lost)).list.sum(),
    )


def told(batches: pl.DataFrame, absent: int, first: datetime, last: datetime, now: datetime) -> Coverage:
    """Compute the statement from the ledger's numbers: a row a landed batch, those before the range included.

    `absent` is how many hosts sent nothing in the range without having said goodbye before it.
    """
    ordered = batches.sort(*_LOAD, "batch_seq").with_columns(
        previous=pl.col("batch_seq").shift(1).over(_LOAD),
        **{f"{name}_before": pl.col(name).shift(1).over(_LOAD) for name in ("seen", "lost")},
    )
    # The first batch of a load counts from zero; one whose predecessor is not at hand counts from itself.
    begins = pl.when(pl.col("batch_seq") == 1).then(0)
    inside = ordered.filter(pl.col("sent_at") >= first).with_columns(
        previous=pl.coalesce("previous", pl.when(pl.col("batch_seq") == 1).then(0), pl.col("batch_seq") - 1),
        seen_before=pl.coalesce("seen_before", begins, "seen"),
        lost_before=pl.coalesce("lost_before", begins, "lost"),
    )
    newest = inside.sort("sent_at").group_by("agent_id").last()
    quiet = newest.filter(~pl.col("final") & (pl.col("sent_at") < min(last, now) - SILENCE)).height
    return Coverage(
        first=first,
        last=last,
        hosts=newest.height,
        batches=inside.height,
        seen=int((inside["seen"] - inside["seen_before"]).sum()),
        lost=int((inside["lost"] - inside["lost_before"]).sum()),
        missing=int((inside["batch_seq"] - inside["previous"] - 1).sum()),
        quarantined=int(inside["quarantined"].sum()),
        silent=quiet + absent,
        unknown_hours=_unknown_hours(ordered, first, min(last, now)) + absent * _hours(first, min(last, now)),
        newest=inside["received_at"].max() if inside.height else None,  # type: ignore[arg-type]
    )


def _unknown_hours(batches: pl.DataFrame, first: datetime, last: datetime) -> int:
    """Count the hours of each host that a silence touches, or a batch that never landed.

    A silence is longer than `SILENCE` and does not follow a goodbye; the one after a host's newest batch ends with the
    range. Where batches are missing, so is what the first one after them would have had before it.
    """
    moment = pl.lit(last, pl.Datetime("us", "UTC"))
    ordered = batches.filter(pl.col("sent_at") < last).sort("agent_id", "sent_at", "batch_seq")
    gaps = ordered.select(
        "agent_id",
        "final",
        begins=pl.max_horizontal("sent_at", pl.lit(first, pl.Datetime("us", "UTC"))),
        since="sent_at",
        ends=pl.col("sent_at").shift(-1).over("agent_id").fill_null(moment),
    ).filter(~pl.col("final") & (pl.col("ends") - pl.col("since") > SILENCE) & (pl.col("begins") < pl.col("ends")))
    spans = gaps.with_columns(hour=hours_between(pl.col("begins"), pl.col("ends"))).explode("hour")
    holes = batches.filter(
        pl.col("sent_at").is_between(first, last, closed="left") & (pl.col("batch_seq") > pl.col("previous") + 1)
    ).select("agent_id", hour=pl.col("sent_at").dt.truncate("1h"))
    return pl.concat([spans.select("agent_id", "hour"), holes]).n_unique()


def hours_between(begins: pl.Expr, ends: pl.Expr) -> pl.Expr:
    """Return the hours, UTC, that a span touches, as a list; its end does not belong to it."""
    return pl.datetime_ranges(
        begins.dt.truncate("1h"),
        (ends - timedelta(microseconds=1)).dt.truncate("1h"),
        interval="1h",
        time_unit="us",
        time_zone="UTC",
    )


def _hours(first: datetime, last: datetime) -> int:
    """Count the hours of the clock that a range touches."""
    if first >= last:
        return 0
    begins = first.replace(minute=0, second=0, microsecond=0)
    return ceil((last - begins) / timedelta(hours=1))


def _percent(part: int, whole: int) -> str:
    """Return a share that never rounds a loss away: 100% is said of all and of nothing less."""
    if whole <= 0 or part >= whole:
        return "100%"
    return f"{min(int(part * 10_000 / whole), 9_999) / 100:.2f}%"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
