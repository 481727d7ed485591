"""One tenant's day or week told: facts computed and kept, a summary written, a page delivered; each step done once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import msgspec
import polars as pl

from dashboards.reports.html import render_html
from dashboards.reports.page import Change, Page
from dashboards.reports.text import render_text
from lake.columns import CAUSES
from lake.quarantined import REPLAYED
from pipelines.acts import copy_acts
from pipelines.checks.accounting import account, accounting_line
from pipelines.clones import find_clones
from pipelines.frames import conform
from pipelines.ledger_window import read_window
from pipelines.summaries import outbox
from pipelines.summaries.compose import changes, fill, page, plain
from pipelines.summaries.document import Facts, canonical, digest, parse
from pipelines.summaries.draft import Draft, Making, Writer
from pipelines.summaries.facts import MEDIAN_DAYS, build_facts
from pipelines.summaries.gathered import Day, busiest
from pipelines.summaries.paper import pdf_or_none
from pipelines.summaries.period import Period
from pipelines.tables import Snapshot, TenantTables
from pipelines.tenant_loop import Counts, SkipTenantError


class Telling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `summaries.document` holds: the draft with its placeholders, and what changed since the revision before.

    `making` says how the draft came about; summaries of older versions do not have it.
    """

    draft: Draft
    changes: list[tuple[str, str, str]]
    making: Making | None = None


def make_facts(tables: TenantTables, period: Period) -> Counts:
    """Compute a period's facts and keep them, unless the newest kept ones say the same."""
    copy_acts(tables)
    snapshot = tables.snapshot(
        "acts", "events", "batches", "quarantine", "hosts", "activity", "completeness", "findings", "sensitive",
        "new_behaviour", "facts",
    )  # fmt: skip
    facts = build_facts(_gather(tables, snapshot, period), _previous(snapshot, period))
    document = canonical(facts)
    name = digest(document)
    kept = _newest_facts(snapshot, period)
    fresh = kept is None or digest(kept) != name
    if fresh:
        row = {**_named(period), "version": facts.version, "document": document, "digest": name}
        tables.append("facts", _row("facts", row | {"made_at": tables.db.clock()}))
    return {"values": len(facts.values), "new_facts": int(fresh)}


def write_summary(tables: TenantTables, period: Period, writer: Writer) -> Counts:
    """Write the summary of a period's newest facts as its next revision, unless the last one rests on them already."""
    snapshot = tables.snapshot("facts", "summaries")
    document = _newest_facts(snapshot, period)
    if document is None:
        raise SkipTenantError("there are no facts of this period")
    last = _newest(snapshot, "summaries", period, "revision")
    if last is not None and last["facts_digest"] == digest(document):
        return {"revision": last["revision"], "new_revisions": 0}
    facts = parse(document)
    written = writer.word(facts)
    draft = written.draft
    told: list[Change] = []
    if last is not None:
        told = changes(parse(_facts_by_digest(snapshot, period, last["facts_digest"])), facts)
    telling = Telling(draft, [(change.label, change.before, change.after) for change in told], written.making)
    revision = 1 if last is None else last["revision"] + 1
    row = {
        **_named(period),
        "revision": revision,
        "writer": draft.writer,
        "facts_digest": digest(document),
        "headline": plain(fill(draft.headline, facts)),
        "document": msgspec.json.encode(telling, order="sorted").decode(),
        "made_at": tables.db.clock(),
    }
    tables.append("summaries", _row("summaries", row))
    return {"revision": revision, "new_revisions": 1}


def deliver(tables: TenantTables, period: Period) -> Counts:
    """Put every revision of a period's summary that is not delivered yet into the outbox, and record it."""
    snapshot, lake = tables.snapshot("facts", "summaries", "deliveries"), tables.settings
    sent = _of(snapshot, "deliveries", period).filter(pl.col("channel") == "outbox").collect()
    done = set(sent["revision"].to_list())
    waiting = _of(snapshot, "summaries", period).sort("revision").collect().filter(~pl.col("revision").is_in(done))
    for summary in waiting.iter_rows(named=True):
        told_page = _page(snapshot, period, summary)
        name = outbox.reference(tables.tenant, period.kind, period.start.isoformat(), summary["revision"])
        stem = name.removesuffix(".html")
        outbox.put(lake, f"{stem}.txt", render_text(told_page).encode())
        if (pdf := pdf_or_none(told_page)) is not None:
            outbox.put(lake, f"{stem}.pdf", pdf)
        row = {
            **_named(period),
            "revision": summary["revision"],
            "channel": "outbox",
            "recipient": tables.tenant,
            "reference": name,
            "digest": outbox.put(lake, name, render_html(told_page).encode()),
            "delivered_at": tables.db.clock(),
        }
        tables.append("deliveries", _row("deliveries", row))
    return {"delivered": waiting.height, "delivered_before": len(done)}


def newest_page(tables: TenantTables, period: Period) -> Page | None:
    """Return the page of a period's newest revision, None if there is none yet."""
    snapshot = tables.snapshot("facts", "summaries")
    summary = _newest(snapshot, "summaries", period, "revision")
    return None if summary is None else _page(snapshot, period, summary)


def _page(snapshot: Snapshot, period: Period, summary: dict[str, Any]) -> Page:
    """Return the page of a row of `summaries`."""
    document = _facts_by_digest(snapshot, period, summary["facts_digest"])
    telling = msgspec.json.decode(summary["document"], type=Telling)
    changed = [Change(*change) for change in telling.changes]
    return page(parse(document), document, telling.draft, summary["revision"], changed)


_LINES: Final = pl.len().cast(pl.Int64) - 2 * (pl.col("code") == REPLAYED).sum().cast(pl.Int64)
"""Lines in quarantine: each mark stands beside the line that has left."""


def _gather(tables: TenantTables, snapshot: Snapshot, period: Period) -> Day:
    first, last = period.start, period.last
    events = snapshot.scan("events", first, last)
    arrived = snapshot.scan("batches", first, last).filter(pl.col("outcome") == "landed")
    spots = arrived.select(pl.col("blind_spots").explode().drop_nulls().unique().sort()).collect()
    known = snapshot.scan("completeness", first, last).collect()
    return Day(
        tenant=tables.tenant,
        day=first,
        period=period,
        activity=snapshot.scan("activity", first, last).collect(),
        completeness=known,
        paths=int(events.select(pl.col("path").n_unique()).collect().item()),
        processes=busiest(events, "process"),
        users=busiest(events, "user"),
        quarantined=int(snapshot.scan("quarantine", first, last).select(_LINES).collect().item()),
        cloned=len({clone.agent_id for clone in find_clones(arrived.collect())}),
        blind_spots=spots["blind_spots"].to_list(),
        accounting=_accounting(snapshot, period, known),
        findings=snapshot.scan("findings", first, last).collect(),
        touched=snapshot.scan("sensitive", first, last).collect(),
        new_behaviour=snapshot.scan("new_behaviour", first, last).collect(),
        acts=snapshot.scan("acts").filter(pl.col("act_day").is_between(first, last)).collect(),
        days_before=_totals_before(snapshot, period),
        as_of=_as_of(arrived) if last >= tables.db.clock().date() else None,
    )


def _accounting(snapshot: Snapshot, period: Period, known: pl.DataFrame) -> str:
    """The equation in words: of a day from its ledger, of a week the sum of what its days have kept."""
    if period.kind == "day":
        window = read_window(snapshot, period.start)
        counted = account(window.events(snapshot), window.cut, window.quarantine(snapshot), window.baseline)
        return accounting_line(counted)
    zero = pl.lit(0, pl.Int64)
    lost = pl.sum_horizontal(f"lost_{cause}" for cause in CAUSES)
    return accounting_line(
        known.select(
            "seen", "filtered", "pending", delivered_events="captured", quarantined_events=zero, lost_events=lost,
            events_unaccounted="unaccounted", rows_unaccounted=zero,
        )
    )  # fmt: skip


def _totals_before(snapshot: Snapshot, period: Period) -> pl.DataFrame:
    """The `events` of each day, or week, of the four weeks before that has any."""
    first, last = period.start - timedelta(days=MEDIAN_DAYS), period.start - timedelta(days=1)
    part = pl.col("event_day") if period.kind == "day" else pl.col("event_day").dt.truncate("1w")
    before = snapshot.scan("activity", first, last)
    return before.group_by(part).agg(pl.col("events").sum()).collect()


def _as_of(arrived: pl.LazyFrame) -> str:
    newest = arrived.select(pl.col("received_at").max().dt.strftime("%H:%M:%S UTC")).collect().item()
    return str(newest) if newest is not None else "midnight"


def _previous(snapshot: Snapshot, period: Period) -> Facts | None:
    """The facts of the period before, unless they were of one still running."""
    document = _newest_facts(snapshot, period.before)
    if document is None:
        return None
    try:
        facts = parse(document)
    except msgspec.ValidationError:
        return None  # of another version: not comparable
    return None if facts.provisional else facts


def is_due(tables: TenantTables, week: Period) -> bool:
    """Say whether a week is to be told: it is over and its last day was told, so that it is told once."""
    if week.last >= tables.db.clock().date():
        return False
    return _newest_facts(tables.unlocked("facts"), Period("day", week.last)) is not None


def newest_facts(tables: TenantTables, period: Period) -> Facts | None:
    """Return a period's newest facts, None if there are none.

    Raises:
        msgspec.ValidationError: they are of another version's form.
    """
    document = _newest_facts(tables.snapshot("facts"), period)
    return None if document is None else parse(document)


def _newest_facts(snapshot: Snapshot, period: Period) -> str | None:
    row = _newest(snapshot, "facts", period, "made_at")
    return None if row is None else str(row["document"])


def _newest(snapshot: Snapshot, table: str, period: Period, by: str) -> dict[str, Any] | None:
    rows = _of(snapshot, table, period).sort(by).tail(1).collect()
    return rows.row(0, named=True) if rows.height else None


def _of(snapshot: Snapshot, table: str, period: Period) -> pl.LazyFrame:
    return snapshot.scan(table, period.start, period.start).filter(pl.col("period") == period.kind)


def _facts_by_digest(snapshot: Snapshot, period: Period, name: object) -> str:
    rows = _of(snapshot, "facts", period).filter(pl.col("digest") == str(name)).head(1).collect()
    return str(rows["document"].item())


def _named(period: Period) -> dict[str, Any]:
    return {"period_start": period.start, "period": period.kind}


def _row(table: str, row: dict[str, Any]) -> pl.DataFrame:
    return conform(pl.DataFrame([row]), table)
