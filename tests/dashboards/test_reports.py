"""The rendered page: whole, self-contained, and safe whatever names are in it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError

from dashboards.reports.charts import events_by_hour
from dashboards.reports.html import _template, render_html
from dashboards.reports.names import visible
from dashboards.reports.page import Block, Change, Figure, HourBar, Page, Part, Ranked, Ranking

BUSY = HourBar(events=120, complete=2, partial=0, unknown=0, not_monitored=0)
PAGE = Page(
    tenant="acme",
    day=date(2026, 3, 4),
    revision=1,
    provisional=False,
    as_of=None,
    status="stable",
    status_rule="By rule.",
    headline=(Part("value", "2"), Part("text", " hosts reported.")),
    figures=(Figure("File events", "120", "no day before"),),
    hours=(BUSY, *([None] * 23)),
    blocks=(Block("How much of it we know", ((Part("text", "All."),),), with_account=True),),
    rankings=(Ranking("Busiest programs", (Ranked("rsync", "120", 1.0),)),),
    accounting="120 events seen = 120 delivered",
    blind_spots=("Writes through io_uring",),
    changes=(),
    further_changes=0,
    written_by="kaimon's template",
    facts_digest="ab" * 32,
    method="1",
)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def tags(html: str) -> Tags:
    parser = Tags()
    parser.feed(html)
    return parser


def test_a_page_fetches_nothing_and_runs_nothing() -> None:
    found = tags(render_html(PAGE))
    assert not {"script", "link", "img", "iframe", "a", "form", "object"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in {"src", "href"}]
    assert "default-src 'none'" in render_html(PAGE)


def test_a_page_says_what_it_knows_and_who_wrote_it() -> None:
    html = render_html(PAGE)
    for words in ("Wednesday, 4 March 2026", "acme", "120 events seen", "io_uring", "Written by kaimon&#39;s template",
                  "Revision 1", "abababababababab"):  # fmt: skip
        assert words in html
    assert "Changed since" not in html
    assert "Day still running" not in html


def test_a_revision_says_what_changed() -> None:
    html = render_html(replace(PAGE, revision=2, changes=(Change("File events", "100", "120"),)))
    assert "Changed since revision 1" in html
    assert "100 → <b>120</b>" in html
    assert "further value" not in html
    assert "and 2 further values" in render_html(
        replace(PAGE, revision=2, changes=(Change("File events", "100", "120"),), further_changes=2)
    )


def test_a_running_day_says_so() -> None:
    html = render_html(replace(PAGE, provisional=True, as_of="10:41:00 UTC"))
    assert "Day still running" in html
    assert "arrived by 10:41:00 UTC" in html


def test_equal_pages_are_equal_bytes() -> None:
    assert render_html(PAGE) == render_html(replace(PAGE))


def test_a_value_that_is_missing_is_an_error_not_a_blank() -> None:
    with pytest.raises(UndefinedError):
        _template().render(page=PAGE)


@settings(deadline=None, max_examples=60)
@given(name=st.text(max_size=80))
def test_no_name_adds_a_tag_or_hides_a_character(name: str) -> None:
    hostile = replace(
        PAGE,
        headline=(Part("name", name),),
        rankings=(Ranking("Busiest programs", (Ranked(name, "1", 0.5),)),),
    )
    plain = replace(
        PAGE,
        headline=(Part("name", "x"),),
        rankings=(Ranking("Busiest programs", (Ranked("x", "1", 0.5),)),),
    )
    html = render_html(hostile)
    assert tags(html).tags == tags(render_html(plain)).tags
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\x00-\x08]", html)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("rsync", "rsync"),
        ("a\u202eb", "a\\u{202e}b"),
        ("a\nb", "a\\u{a}b"),
        ("a\u00a0b", "a\\u{a0}b"),
        ("zero\u200bwidth", "zero\\u{200b}width"),
        ("", "(empty)"),
        ("   ", "(blank)"),
        ("日本語", "日本語"),
        ("e" + "\u0301" * 5, "e" + "\u0301" * 3 + "\\u{301}" * 2),
    ],
)
def test_what_cannot_be_seen_is_shown(name: str, shown: str) -> None:
    assert visible(name) == shown


def test_a_long_name_keeps_both_its_ends() -> None:
    shown = visible("head" + "x" * 5000 + "tail", limit=30)
    assert (len(shown), shown[:4], shown[-4:]) == (30, "head", "tail")


def drawn(*hours: HourBar | None) -> list[str]:
    svg = ET.fromstring(str(events_by_hour(hours)).split("</defs>")[0] + "</defs></svg>") is not None
    assert svg
    return re.findall(r'<rect class="([a-z ]+)"', str(events_by_hour(hours)).split("</defs>")[1])


def test_an_unknown_hour_is_hatched_and_a_lossy_one_is_marked() -> None:
    unknown = HourBar(0, 0, 0, 2, 0)
    lossy = HourBar(10, 1, 1, 0, 0)
    assert drawn(BUSY, unknown, lossy) == ["bar", "hatched", "bar partial"]


def test_an_hour_without_hosts_is_a_dash_and_one_to_come_is_nothing() -> None:
    assert drawn(HourBar(0, 0, 0, 0, 2), None) == ["idle"]


def test_an_hour_known_to_be_quiet_differs_from_an_unknown_one() -> None:
    assert drawn(HourBar(0, 2, 0, 0, 0)) == ["bar"]


def test_half_unknown_hatches_half_the_height() -> None:
    heights = re.findall(r'class="hatched"[^>]*height="([\d.]+)"', str(events_by_hour([HourBar(5, 1, 0, 1, 0)])))
    whole = re.findall(r'class="hatched"[^>]*height="([\d.]+)"', str(events_by_hour([HourBar(5, 0, 0, 2, 0)])))
    assert float(whole[0]) == 2 * float(heights[0])


@given(events=st.integers(0, 10**15))
def test_no_bar_is_taller_than_the_chart(events: int) -> None:
    svg = str(events_by_hour([HourBar(events, 1, 0, 0, 0)]))
    height = float(re.findall(r'class="bar"[^>]*height="([\d.]+)"', svg)[0])
    assert 1 <= height <= 132
