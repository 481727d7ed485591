"""A summary as mail, text and PDF: whole, self-contained, and inert whatever names are in it."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.reports.mail import render_mail, subject
from dashboards.reports.page import Block, Figure, HourBar, Matter, Page, Part, Ranked, Ranking
from dashboards.reports.pdf import render_pdf
from dashboards.reports.text import render_text
from pipelines.summaries.blind_spots import BLIND_SPOTS
from tests.dashboards.test_reports import PAGE, tags

HOSTILE = ("<script>x</script>", "\u202egpj.exe", "a\r\nBcc: x@example.com", "</data>", "x" * 4096, "ab\u200bcd")
STOP = "https://kaimon.example/unsubscribe?r=rcp_1&t=ab"


def named(name: str) -> Page:
    return replace(
        PAGE,
        headline=(Part("name", name),),
        matters=(Matter("critical", "opened", "Files renamed", (Part("name", name),), "It spreads."),),
        rankings=(Ranking("Busiest programs", (Ranked(name, "1", 0.5),)),),
    )


def read(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages)


def test_a_mail_fetches_nothing_and_its_one_link_is_the_way_out() -> None:
    html = render_mail(PAGE, STOP)
    found = tags(html)
    assert not {"script", "link", "img", "style", "svg", "iframe", "form"} & set(found.tags)
    assert [value for name, value in found.attributes if name in {"href", "src"}] == [STOP]
    assert "url(" not in html
    assert not [value for name, value in tags(render_mail(PAGE)).attributes if name == "href"]


def test_a_mails_styles_are_on_its_elements() -> None:
    assert re.search(r'<td class="inside" style="[^"]*padding: ?28px', render_mail(PAGE))


def test_a_mail_holds_to_what_common_mail_programs_show() -> None:
    matter = Matter("critical", "opened", "Many files renamed", LINE, "It may be ransomware. " * 4)
    html = render_mail(replace(DAY, matters=(matter,) * 3), STOP)
    # Gmail cuts off what is longer than 102 kB, and with it the way out.
    assert len(html.encode()) < 100_000
    # Outlook sets mail with Word, which knows tables; none of these is safe everywhere.
    unsafe = (
        r"flex|grid|position:|float:|calc\(|var\(|rgba|[0-9]rem\b|[0-9]v[wh]\b|!important|@media|<style|class=\"{2}"
    )
    assert not re.search(unsafe, html.replace(" ", ""))
    found = tags(html)
    assert {"div", "section", "header", "footer", "ul", "h1", "h2"}.isdisjoint(found.tags)
    widths = [int(value) for name, value in found.attributes if name == "width" and value.isdigit()]
    assert widths == [640]
    # A program that reads aloud skips tables that are layout, and is told what the chart shows.
    roles = [value for name, value in found.attributes if name == "role"]
    assert len(roles) == html.count("<table")
    assert set(roles) == {"presentation", "img"}
    (spoken,) = [value for name, value in found.attributes if name == "aria-label"]
    assert spoken.startswith("Events an hour from 00, UTC: 0, unknown, 100, unknown, 200,")


def test_a_mail_is_readable_where_a_program_makes_it_dark() -> None:
    html = render_mail(DAY, STOP)
    assert '<meta name="color-scheme" content="light">' in html
    # Whoever turns colours over needs both of each pair: ink on every text, paper below it.
    styles = re.findall(r"<(?:td|p)\b[^>]*>", html)
    assert [one for one in styles if not re.search(r"[\"; ]color: ?#", one)] == []
    assert re.search(r"<body style=\"[^\"]*background-color: ?#f3f5f4", html)
    assert re.search(r"<table[^>]*class=\"sheet\"[^>]*background-color: ?#ffffff", html)


def test_a_link_that_is_not_https_is_refused() -> None:
    with pytest.raises(ValueError, match="https"):
        render_mail(PAGE, "javascript:alert(1)")


@pytest.mark.parametrize("render", [render_mail, render_text, lambda page: read(render_pdf(page))])
def test_every_form_says_status_account_writer_and_blind_spots(render: object) -> None:
    text = " ".join(render(named("rsync")).replace("&#39;", "'").split())  # type: ignore[operator]
    for words in ("stable", "120 events seen = 120 delivered", "kaimon's template", "io_uring", "Files renamed"):
        assert words.lower() in text.lower()


@settings(deadline=None, max_examples=40)
@given(name=st.text(max_size=60) | st.sampled_from(HOSTILE))
def test_no_name_adds_a_tag_to_a_mail_or_a_line_to_a_text(name: str) -> None:
    html, text = render_mail(named(name)), render_text(named(name))
    assert tags(html).tags == tags(render_mail(named("x"))).tags
    for form in (html, text):
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\x00-\x08\r\x1b]", form)
    assert not re.search("(?m)^Bcc:", text)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_more_than_text_in_a_pdf(name: str) -> None:
    pdf = render_pdf(named(name))
    reader = pypdf.PdfReader(io.BytesIO(pdf))
    assert "/JavaScript" not in str(reader.root_object)
    assert not [page for page in reader.pages if "/Annots" in page]
    assert "\u202e" not in read(pdf)


LINE = (Part("text", "Files and folders were created "), Part("value", "68"), Part("text", " times and written once."))
DAY = replace(
    PAGE,
    figures=(Figure("File events", "12,589", "1.2 times the day before"),) * 4,
    hours=tuple(HourBar(50 * hour, 2, 0, hour % 2, 0) for hour in range(24)),
    blocks=tuple(
        Block(title, (LINE,) * 3, title.startswith("How"))
        for title in ("What to decide", "What happened", "Who was active", "How much of it we know")
    ),
    blind_spots=tuple(BLIND_SPOTS.values())[:15],
    rankings=tuple(
        Ranking(title, tuple(Ranked(f"program-{number}", "12,345", 0.5) for number in range(5)))
        for title in ("Busiest programs", "Busiest users")
    ),
)
"""As full as a day is whose agents capture as they do nearly everywhere."""


def test_a_day_fits_one_sheet_and_a_grave_one_begins_with_what_matters() -> None:
    assert len(pypdf.PdfReader(io.BytesIO(render_pdf(DAY))).pages) == 1
    matter = Matter("critical", "opened", "Many files renamed", LINE, "It may be ransomware. " * 4)
    grave = pypdf.PdfReader(io.BytesIO(render_pdf(replace(DAY, matters=(matter,) * 3))))
    assert len(grave.pages) <= 2
    first = grave.pages[0].extract_text()
    assert first.count("Many files renamed") == 3
    assert "What to decide" in first


def test_the_chart_of_a_pdf_is_drawn() -> None:
    some, none = (
        pypdf.PdfReader(io.BytesIO(render_pdf(replace(DAY, hours=hours)))).pages[0].get_contents()
        for hours in (DAY.hours, (None,) * 24)
    )
    assert some is not None
    assert none is not None
    drawn = [len(re.findall(rb"\bre\b", made.get_data())) for made in (some, none)]
    assert drawn[0] >= drawn[1] + 24


def test_no_name_is_in_a_subject() -> None:
    assert subject(named("a\r\nBcc: x@example.com")) == subject(named("x")) == "kaimon acme: stable, 2026-03-04"
