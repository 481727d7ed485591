"""The PDF of a summary, or none: a machine that cannot set text must not keep a summary from going out."""

from __future__ import annotations

from dashboards.reports.page import Page
from dashboards.reports.pdf import render_pdf
from kaimon.base.logs import get_logger


def pdf_or_none(page: Page) -> bytes | None:
    """Return the page as PDF, None where the libraries for it are missing, which is logged."""
    try:
        return render_pdf(page)
    except OSError as error:
        get_logger(__name__).error("pdf_not_made", error=str(error))
        return None
