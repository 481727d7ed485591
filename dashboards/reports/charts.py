"""Charts as SVG, drawn on the server; what is not known is hatched, never drawn as nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape  # what Jinja's autoescape takes as it is

from dashboards.reports.page import HourBar

WIDTH, HEIGHT = 704, 168
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 4, 10, 26
_FLOOR = HEIGHT - _BOTTOM
_PLOT_HEIGHT = _FLOOR - _TOP
_STYLE = (
    "<style>.chart .grid{stroke:#e7ecea;stroke-width:1}.chart .tick{fill:#7b8a88;font-size:11px;font-family:sans-serif}"
    ".chart .bar{fill:#3d8f84}.chart .bar.partial{fill:#c98a2b}.chart .hatched{fill:url(#hatch)}"
    ".chart .idle{fill:#d5dcda}.hatch-ground{fill:#f6eeee}.hatch-line{fill:#d9a79c}</style>"
)
"""Inside the picture, since what makes the PDF applies no style of the page to it."""
_HATCH = (
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="hatch-ground" width="6" height="6"/><rect class="hatch-line" width="2" height="6"/></pattern></defs>'
)


@dataclass(frozen=True)
class Bar:
    """A column of a chart: how it is called, what it shows (None: nothing is shown), and where it leads."""

    label: str
    hour: HourBar | None
    href: str | None = None


def events_by_hour(hours: Sequence[HourBar | None]) -> Markup:
    """Return an SVG bar chart of events an hour.

    A column is hatched for as large a part of its height as hosts are unknown in that hour, from the top down; an
    hour in which no host was monitored shows a flat dash; one that has not begun shows nothing. Only numbers go in.
    """
    return _drawn([Bar(f"{index:02}", hour) for index, hour in enumerate(hours)], 3, "img", words_of(hours), _STYLE)


def events_by_time(bars: Sequence[Bar], words: str) -> Markup:
    """Return a chart as `events_by_hour` draws it, over any range; each column leads to where its bar says.

    It bears no style of its own: it is for pages, which have one.

    Args:
        bars: in order; their labels and addresses may hold anything.
        words: what the chart shows, for who cannot see it.
    """
    return _drawn(bars, max(1, -(-len(bars) // 8)), "group", words, "")


def _drawn(bars: Sequence[Bar], every: int, role: str, words: str, style: str) -> Markup:
    """Return the chart: every so many columns bear their label below."""
    top = _ceiling(max((bar.hour.events for bar in bars if bar.hour), default=0))
    step = (WIDTH - _LEFT - _RIGHT) / max(len(bars), 1)
    drawn: list[str] = []
    for share in (0.0, 0.5, 1.0):
        y = _FLOOR - share * _PLOT_HEIGHT
        drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(_tick(_LEFT - 8, y + 4, "end", _short(top * share)))
    for index, bar in enumerate(bars):
        x = _LEFT + index * step
        if index % every == 0:
            drawn.append(_tick(x + step / 2, HEIGHT - 8, "middle", escape(bar.label)))
        if bar.hour is None:
            continue
        boxes = _column(bar.hour, x + step * 0.16, step * 0.68, top)
        if bar.href is None:
            drawn += boxes
            continue
        told = escape(f"{bar.label}: {bar.hour.events:,} events{', not all known' if bar.hour.unknown else ''}")
        # All of the column's height can be hit, however low its bar is.
        boxes.append(_box("hit", x, _TOP, step, _PLOT_HEIGHT))
        drawn.append(f'<a href="{escape(bar.href)}" aria-label="{told}"><title>{told}</title>{"".join(boxes)}</a>')
    words = escape(words)
    return Markup(  # noqa: S704 - numbers, our own words, and what was escaped
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="{role}" aria-label="{words}"'
        f' xmlns="http://www.w3.org/2000/svg">{style}{_HATCH}'
        f"<title>{words}</title>{''.join(drawn)}</svg>"
    )


def _tick(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _box(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _column(hour: HourBar, x: float, width: float, top: float) -> list[str]:
    monitored = hour.complete + hour.partial + hour.unknown
    if monitored == 0 and hour.events == 0:
        return [_box("idle", x, _FLOOR - 2, width, 2)]
    drawn = []
    if hour.unknown:
        drawn.append(_box("hatched", x, _TOP, width, _PLOT_HEIGHT * hour.unknown / monitored))
    if hour.events:
        height = max(_PLOT_HEIGHT * hour.events / top, 1.5)
        drawn.append(_box("bar partial" if hour.partial else "bar", x, _FLOOR - height, width, height))
    elif not hour.unknown:
        drawn.append(_box("bar", x, _FLOOR - 1, width, 1))
    return drawn


def words_of(hours: Sequence[HourBar | None]) -> str:
    """Return what a chart of hours shows, for who cannot see it."""
    known = [hour for hour in hours if hour]
    unknown = sum(1 for hour in known if hour.unknown)
    return f"File events by hour: {sum(hour.events for hour in known):,} in all; {unknown} hours with unknown parts"


def _ceiling(value: int) -> float:
    """Return a round number at or above `value`, at least 4."""
    if value <= 4:
        return 4
    magnitude = 10 ** math.floor(math.log10(value))
    return float(next(step * magnitude for step in (1, 2, 4, 5, 8, 10) if step * magnitude >= value))


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
