"""One tenant's day told: facts computed and kept, a summary written, a page delivered; each step done once."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from dashboards.reports.html import render_html
from dashboards.reports.page import Change
from dashboards.reports.text import render_text
from pipelines.checks.accounting import account, accounting_line
from pipelines.checks.quarantined import REPLAYED
from pipelines.clones import find_clones
from pipelines.frames import conform
from pipelines.ledger_window import read_window
from pipelines.summaries import outbox
from pipelines.summaries.compose import changes, fill, page, plain
from pipelines.summaries.document import Facts, canonical, digest, parse
from pipelines.summaries.draft import Draft, Making, Writer
from pipelines.summaries.facts import MEDIAN_DAYS, Day, build_facts, busiest
from pipelines.summaries.paper import pdf_or_none
from pipelines.tables import Snapshot, TenantTables
from pipelines.tenant_loop import Counts, SkipTenantError

PERIOD: Final = "day"


class Telling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `summaries.document` holds: the draft with its placeholders, and what changed since the revision before.

    `making` says how the draft came about; summaries of older versions do not have it.
    """

    draft: Draft
    changes: list[tuple[str, str, str]]
    making: Making | None = None


def make_facts(tables: TenantTables, day: date) -> Counts:
    """Compute a day's facts and keep them, unless the newest kept ones say the same."""
    snapshot = tables.snapshot(
        "events", "batches", "quarantine", "hosts", "activity", "completeness", "findings", "sensitive",
        "new_behaviour", "facts",
    )  # fmt: skip
    facts = build_facts(_gather(tables, snapshot, day), _previous(snapshot, day))
    document = canonical(facts)
    name = digest(document)
    kept = _newest_facts(snapshot, day)
    fresh = kept is None or digest(kept) != name
    if fresh:
        row = {"period_start": day, "period": PERIOD, "version": facts.version, "document": document, "digest": name}
        tables.append("facts", _row("facts", row | {"made_at": tables.db.clock()}))
    return {"values": len(facts.values), "new_facts": int(fresh)}


def write_summary(tables: TenantTables, day: date, writer: Writer) -> Counts:
    """Write the summary of a day's newest facts as its next revision, unless the last one rests on them already."""
    snapshot = tables.snapshot("facts", "summaries")
    document = _newest_facts(snapshot, day)
    if document is None:
        raise SkipTenantError("there are no facts of this day")
    last = _newest(snapshot, "summaries", day, "revision")
    if last is not None and last["facts_digest"] == digest(document):
        return {"revision": last["revision"], "new_revisions": 0}
    facts = parse(document)
    written = writer.word(facts)
    draft = written.draft
    told: list[Change] = []
    if last is not None:
        told = changes(parse(_facts_by_digest(snapshot, day, last["facts_digest"])), facts)
    telling = Telling(draft, [(change.label, change.before, change.after) for change in told], written.making)
    revision = 1 if last is None else last["revision"] + 1
    row = {
        "period_start": day,
        "period": PERIOD,
        "revision": revision,
        "writer": draft.writer,
        "facts_digest": digest(document),
        "headline": plain(fill(draft.headline, facts)),
        "document": msgspec.json.encode(telling, order="sorted").decode(),
        "made_at": tables.db.clock(),
    }
    tables.append("summaries", _row("summaries", row))
    return {"revision": revision, "new_revisions": 1}


def deliver(tables: TenantTables, day: date, folder: Path) -> Counts:
    """Put every revision of a day's summary that is not delivered yet into the outbox, and record it."""
    snapshot = tables.snapshot("facts", "summaries", "deliveries")
    sent = snapshot.scan("deliveries", day, day).filter(pl.col("channel") == "outbox").collect()
    done = set(sent["revision"].to_list())
    waiting = snapshot.scan("summaries", day, day).sort("revision").collect().filter(~pl.col("revision").is_in(done))
    for summary in waiting.iter_rows(named=True):
        document = _facts_by_digest(snapshot, day, summary["facts_digest"])
        telling = msgspec.json.decode(summary["document"], type=Telling)
        told = [Change(*change) for change in telling.changes]
        told_page = page(parse(document), document, telling.draft, summary["revision"], told)
        name = outbox.reference(tables.tenant, PERIOD, day.isoformat(), summary["revision"])
        stem = name.removesuffix(".html")
        outbox.put(folder, f"{stem}.txt", render_text(told_page).encode())
        if (pdf := pdf_or_none(told_page)) is not None:
            outbox.put(folder, f"{stem}.pdf", pdf)
        row = {
            "period_start": day,
            "period": PERIOD,
            "revision": summary["revision"],
            "channel": "outbox",
            "recipient": tables.tenant,
            "reference": name,
            "digest": outbox.put(folder, name, render_html(told_page).encode()),
            "delivered_at": tables.db.clock(),
        }
        tables.append("deliveries", _row("deliveries", row))
    return {"delivered": waiting.height, "delivered_before": len(done)}


_LINES: Final = pl.len().cast(pl.Int64) - 2 * (pl.col("code") == REPLAYED).sum().cast(pl.Int64)
"""Lines in quarantine: each mark stands beside the line that has left."""


def _gather(tables: TenantTables, snapshot: Snapshot, day: date) -> Day:
    window = read_window(snapshot, day)
    accounting = account(window.events(snapshot), window.cut, window.quarantine(snapshot), window.baseline)
    events = snapshot.scan("events", day, day)
    arrived = snapshot.scan("batches", day, day).filter(pl.col("outcome") == "landed")
    spots = arrived.select(pl.col("blind_spots").explode().drop_nulls().unique().sort()).collect()
    return Day(
        tenant=tables.tenant,
        day=day,
        activity=snapshot.scan("activity", day, day).collect(),
        completeness=snapshot.scan("completeness", day, day).collect(),
        paths=int(events.select(pl.col("path").n_unique()).collect().item()),
        processes=busiest(events, "process"),
        users=busiest(events, "user"),
        quarantined=int(snapshot.scan("quarantine", day, day).select(_LINES).collect().item()),
        cloned=len({clone.agent_id for clone in find_clones(arrived.collect())}),
        blind_spots=spots["blind_spots"].to_list(),
        accounting=accounting_line(accounting),
        findings=snapshot.scan("findings", day, day).collect(),
        touched=snapshot.scan("sensitive", day, day).collect(),
        new_behaviour=snapshot.scan("new_behaviour", day, day).collect(),
        days_before=snapshot.scan("activity", day - timedelta(days=MEDIAN_DAYS), day - timedelta(days=1))
        .group_by("event_day")
        .agg(pl.col("events").sum())
        .collect(),
        as_of=_as_of(arrived) if day >= tables.db.clock().date() else None,
    )


def _as_of(arrived: pl.LazyFrame) -> str:
    newest = arrived.select(pl.col("received_at").max().dt.strftime("%H:%M:%S UTC")).collect().item()
    return str(newest) if newest is not None else "midnight"


def _previous(snapshot: Snapshot, day: date) -> Facts | None:
    """The facts of the day before, unless they were of a day still running."""
    document = _newest_facts(snapshot, day - timedelta(days=1))
    if document is None:
        return None
    try:
        facts = parse(document)
    except msgspec.ValidationError:
        return None  # of another version: not comparable
    return None if facts.provisional else facts


def newest_facts(tables: TenantTables, day: date) -> Facts | None:
    """Return a day's newest facts, None if there are none.

    Raises:
        msgspec.ValidationError: they are of another version's form.
    """
    document = _newest_facts(tables.snapshot("facts"), day)
    return None if document is None else parse(document)


def _newest_facts(snapshot: Snapshot, day: date) -> str | None:
    row = _newest(snapshot, "facts", day, "made_at")
    return None if row is None else str(row["document"])


def _newest(snapshot: Snapshot, table: str, day: date, by: str) -> dict[str, Any] | None:
    rows = snapshot.scan(table, day, day).filter(pl.col("period") == PERIOD).sort(by).tail(1).collect()
    return rows.row(0, named=True) if rows.height else None


def _facts_by_digest(snapshot: Snapshot, day: date, name: object) -> str:
    rows = snapshot.scan("facts", day, day).filter(pl.col("digest") == str(name)).head(1).collect()
    return str(rows["document"].item())


def _row(table: str, row: dict[str, Any]) -> pl.DataFrame:
    return conform(pl.DataFrame([row]), table)
