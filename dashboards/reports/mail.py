"""A summary as the HTML of a mail: tables and styles on the elements, since mail programs know little more."""

from __future__ import annotations

import css_inline

from dashboards.reports.html import _template
from dashboards.reports.page import HourBar, Page

CHART_HEIGHT = 72
"""Height of the tallest column, px."""


def render_mail(page: Page, unsubscribe: str | None = None) -> str:
    """Return the page as HTML for mail: no scripts, no pictures, nothing fetched; its one link is `unsubscribe`.

    Raises:
        ValueError: `unsubscribe` is not `https`.
    """
    if unsubscribe is not None and not unsubscribe.startswith("https://"):
        raise ValueError("a link in a mail is https")
    html = _template("mail.html").render(
        page=page,
        columns=[_column(hour, max((one.events for one in page.hours if one), default=0)) for hour in page.hours],
        spoken=f"{page.chart_title} from 00, UTC: " + ", ".join(map(_spoken, page.hours)),
        chart_height=CHART_HEIGHT,
        unsubscribe=unsubscribe,
    )
    inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_style_tags=False)
    return str(inliner.inline(html))


def subject(page: Page) -> str:
    """Return the subject: nothing in it is a name that anybody but the operator chose."""
    again = "" if page.revision == 1 else f" (revision {page.revision})"
    return f"kaimon {page.tenant}: {page.status_word.lower()}, {page.short_name}{again}"


def _spoken(hour: HourBar | None) -> str:
    """Return a column for who hears the mail; of an hour that is not known, no number is a fact."""
    if hour is None:
        return "none yet"
    return "unknown" if hour.unknown else f"{hour.events:,}"


def _column(hour: HourBar | None, most: int) -> tuple[int, str]:
    """Return a column's height in px and what it is; mail programs draw no hatching, so unknown has its own colour."""
    if hour is None:
        return 1, "none"
    if hour.unknown:
        return CHART_HEIGHT, "unknown"
    if hour.complete + hour.partial == 0 and not hour.events:
        return 2, "idle"
    height = max(round(CHART_HEIGHT * hour.events / most), 2) if most else 2
    return height, "partial" if hour.partial else "bar"
