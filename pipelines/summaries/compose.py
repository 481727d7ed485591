"""Puts values and names into a guarded draft: facts and words become a page."""

from __future__ import annotations

from datetime import date
from typing import Final

from dashboards.reports.page import Block, Change, Figure, HourBar, Matter, Page, Part, Ranked, Ranking, Sentence
from pipelines.summaries.blind_spots import describe
from pipelines.summaries.document import Facts, Value, digest
from pipelines.summaries.draft import PLACEHOLDER, SECTION_TITLES, Draft
from pipelines.summaries.numbers import UNKNOWN, show_change

WRITERS: Final = {"template": "kaimon's template", "model": "a language model, from computed facts only"}

SHOWN_CHANGES: Final = 6
"""How many changes a page names; the rest it counts, and the summary's record holds them all."""

_WEIGHTY: Final = (
    "findings.urgent",
    "events.total",
    "hosts.reporting",
    "hosts.expected",
    "hours.unknown",
    "accounting.unaccounted",
    "accounting.lost",
    "coverage.share",
)


def fill(sentence: str, facts: Facts) -> Sentence:
    """Return a sentence's parts with each placeholder's value or name in its place.

    Raises:
        KeyError: it refers to something that the facts do not hold; the guard was not asked.
    """
    pieces = PLACEHOLDER.split(sentence)
    parts: list[Part] = []
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            if piece:
                parts.append(Part("text", piece))
        elif piece in facts.entities:
            parts.append(Part("name", facts.entities[piece].name))
        else:
            parts.append(Part("value", facts.values[piece].display))
    return tuple(parts)


def plain(sentence: Sentence) -> str:
    """Return a filled sentence as text."""
    return "".join(part.text for part in sentence)


def changes(before: Facts, after: Facts) -> list[Change]:
    """Return the values that differ between two revisions' facts, by what they are called, the weightiest first."""
    labels = before.values | after.values
    ordered = [*_WEIGHTY, *sorted(labels.keys() - set(_WEIGHTY))]
    names = [name for name in ordered if name in labels and _shown(before, name) != _shown(after, name)]
    found = [Change(labels[name].label, _shown(before, name), _shown(after, name)) for name in names]
    if before.status != after.status:
        found.insert(0, Change("Status", before.status, after.status))
    return found


def page(facts: Facts, document: str, draft: Draft, revision: int, changed: list[Change]) -> Page:
    """Return the page of one revision; `document` is the facts' canonical JSON, `draft` has passed the guard."""
    return Page(
        tenant=facts.tenant,
        day=date.fromisoformat(facts.period_start),
        period=facts.period,
        revision=revision,
        provisional=facts.provisional,
        as_of=facts.as_of,
        status=facts.status,
        status_rule=facts.status_rule,
        headline=fill(draft.headline, facts),
        figures=_figures(facts),
        hours=_hours(facts),
        blocks=tuple(
            Block(
                SECTION_TITLES[section.key],
                tuple(fill(sentence, facts) for sentence in section.sentences),
                with_account=section.key == "coverage",
            )
            for section in draft.sections
        ),
        rankings=tuple(
            _ranking(facts, title, aliases)
            for title, aliases in (("Busiest programs", facts.processes), ("Busiest users", facts.users))
            if aliases
        ),
        accounting=facts.accounting,
        blind_spots=tuple(dict.fromkeys(describe(key) for key in facts.blind_spots)),
        changes=tuple(changed[:SHOWN_CHANGES]),
        further_changes=max(len(changed) - SHOWN_CHANGES, 0),
        written_by=WRITERS[draft.writer],
        facts_digest=digest(document),
        method=facts.version,
        matters=tuple(
            Matter(one.severity, one.state, one.title, fill(one.who, facts), one.why) for one in facts.matters
        ),
    )


def _shown(facts: Facts, name: str) -> str:
    return facts.values[name].display if name in facts.values else UNKNOWN


def _figures(facts: Facts) -> tuple[Figure, ...]:
    values = facts.values
    total, unknown = values["events.total"], values["hours.unknown"]
    unaccounted, lost = values["accounting.unaccounted"], values["accounting.lost"]
    change = values["events.change"]
    compared = "so far today" if facts.provisional else f"no {facts.period} before"
    if change.value is not None:
        compared = f"{show_change(change.value)} on the {facts.period} before"
    fell = values["hosts.silent"]
    silent = values["hosts.expected"].value != values["hosts.reporting"].value or _any(fell)
    note = f"{fell.display} fell silent" if _any(fell) else "none silent"
    reporting = f"{values['hosts.reporting'].display} of {values['hosts.expected'].display}"
    missing = f"{lost.display} known lost, {unaccounted.display} unaccounted"
    hours = f"of {values['hours.monitored'].display} monitored"
    return (
        Figure("File events", total.display, compared),
        Figure("Hosts reporting", reporting, note, alert=silent),
        Figure("Delivered", values["coverage.share"].display, missing, alert=_any(unaccounted)),
        Figure("Unknown host-hours", unknown.display, hours, alert=_any(unknown)),
    )


def _any(value: Value) -> bool:
    return bool(value.value)


def _hours(facts: Facts) -> tuple[HourBar | None, ...]:
    bars: list[HourBar | None] = [None] * 24
    for hour in facts.hours:
        bars[hour.hour] = HourBar(hour.events, hour.complete, hour.partial, hour.unknown, hour.not_monitored)
    return tuple(bars)


def _ranking(facts: Facts, title: str, aliases: list[str]) -> Ranking:
    total = float(facts.values["events.total"].value or 0)
    rows = []
    for alias in aliases:
        events = facts.values[f"{alias}.events"]
        share = float(events.value or 0) / total if total else 0.0
        rows.append(Ranked(facts.entities[f"entity.{alias}"].name, events.display, min(share, 1.0)))
    return Ranking(title, tuple(rows))
