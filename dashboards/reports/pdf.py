"""A summary as PDF: the same page, set for paper, with its chart drawn on the server and nothing fetched."""

from __future__ import annotations

import logging
from typing import NoReturn

from dashboards.reports.html import render_html
from dashboards.reports.page import Page


def render_pdf(page: Page) -> bytes:
    """Return the page as PDF.

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

    made: bytes = HTML(string=render_html(page), base_url=None, url_fetcher=Nothing()).write_pdf()
    return made
