"""A summary as PDF: the same page, set for paper, with its chart drawn on the server and nothing fetched."""

from __future__ import annotations

import logging
from typing import Any, Final, NoReturn

from dashboards.reports.html import render_html
from dashboards.reports.page import Page

_LARGER: Final = (1.08, 1.17, 1.26)
"""How much larger a paper it may be set on, to be shrunk onto US letter; further, and nobody can read it."""


def render_pdf(page: Page) -> bytes:
    """Return the page as PDF, on one sheet of US letter; of the most that can be told, on two.

    Raises:
        OSError: the machine lacks the libraries (Pango) that set text.
    """
    # Takes most of a second, and is needed for nothing else.
    from weasyprint import HTML  # type: ignore[import-untyped]
    from weasyprint.urls import URLFetcher  # type: ignore[import-untyped]

    # It tells of every rule of style that is meant for browsers only.
    logging.getLogger("weasyprint").setLevel(logging.ERROR)

    class Nothing(URLFetcher):  # type: ignore[misc]
        def fetch(self, url: str, headers: object = None) -> NoReturn:  # noqa: ARG002 - its base's form
            raise ValueError("a summary fetches nothing")

    def laid_out(paper: float) -> Any:
        return HTML(string=render_html(page, paper), base_url=None, url_fetcher=Nothing()).render()

    whole = laid_out(1.0)
    document, paper = whole, 1.0
    for larger in _LARGER:
        if len(document.pages) == 1:
            break
        document, paper = laid_out(larger), larger
    if len(document.pages) > 1:
        document, paper = whole, 1.0
    made: bytes = document.write_pdf(zoom=1 / paper)
    return made
