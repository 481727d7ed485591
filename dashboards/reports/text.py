"""A summary as plain text, for who reads mail without HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from dashboards.reports.names import visible
from dashboards.reports.page import HOST_HOUR, Page, Sentence

WIDTH = 76
_LINES = {"opened": "new", "ongoing": "seen before", "quiet": "quiet now"}


def plain(sentence: Sentence) -> str:
    """Return a sentence as one line; names stand in quotes and hold nothing that acts on what shows them."""
    return "".join(f"“{visible(part.text)}”" if part.kind == "name" else part.text for part in sentence)


def render_text(page: Page, unsubscribe: str | None = None) -> str:
    """Return the page as text that ends in a newline; no name adds a line of its own beginning."""
    return "\n".join(_lines(page, unsubscribe)) + "\n"


def _lines(page: Page, unsubscribe: str | None) -> Iterator[str]:
    yield from _top(page)
    for matter in page.matters:
        yield from _wrapped(f"[{matter.severity}, {_LINES[matter.state]}] {matter.title}", "- ")
        yield from _wrapped(f"{plain(matter.who)} {matter.why}", "  ")
    for block in page.blocks:
        yield from ("", block.title.upper())
        for sentence in block.sentences:
            yield from _wrapped(plain(sentence))
        if block.with_account:
            yield from _wrapped(f"{page.account_title}: {page.accounting}.")
            for spot in page.blind_spots:
                yield from _wrapped(f"Out of sight: {visible(spot, 400)}", "- ")
    for ranking in page.rankings:
        yield from ("", ranking.title.upper())
        yield from (f"- {row.events:>12}  “{visible(row.name, 34)}”" for row in ranking.rows)
    yield from _foot(page)
    if unsubscribe:
        yield from ("", "No more of these:", unsubscribe)


def _top(page: Page) -> Iterator[str]:
    yield f"kaimon · {'weekly' if page.period == 'week' else 'daily'} file activity · {page.tenant}"
    week = "Week of " if page.period == "week" else ""
    yield f"{week}{page.day:%A}, {page.day.day} {page.day:%B %Y}: {page.status_word.upper()}"
    if page.provisional:
        yield "Day still running"
    yield from ("", *_wrapped(plain(page.headline)))
    if page.changes:
        yield from ("", f"CHANGED SINCE REVISION {page.revision - 1}")
        for change in page.changes:
            yield from _wrapped(f"{change.label}: {change.before} → {change.after}", "- ")
        if page.further_changes:
            yield f"- and {page.further_changes} more"
    yield ""
    for figure in page.figures:
        yield from _wrapped(f"{figure.label}: {figure.value} ({figure.note})", "- ")
    if page.matters:
        yield from ("", "WHAT MATTERS")


def _foot(page: Page) -> Iterator[str]:
    arrived = f", with data that had arrived by {page.as_of}" if page.as_of else ""
    yield ""
    yield from _wrapped(f"Written by {page.written_by}. Revision {page.revision}{arrived}. Times are UTC. {HOST_HOUR}.")
    yield from _wrapped(f"How “{page.status_word.lower()}” is decided: {page.status_rule}")
    yield f"Method {page.method}, facts {page.facts_digest[:16]}."


def _wrapped(text: str, mark: str = "") -> list[str]:
    found = textwrap.wrap(text, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark), break_long_words=False)
    return found or [mark]
