"""A summary as one HTML page: no scripts, no links, nothing fetched."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from dashboards.reports.charts import events_by_hour
from dashboards.reports.names import visible
from dashboards.reports.page import HOST_HOUR, Page


@cache
def _template(name: str = "summary.html") -> Template:
    environment = Environment(
        loader=PackageLoader("dashboards.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.globals["host_hour"] = HOST_HOUR
    return environment.get_template(name)


def render_html(page: Page, paper: float = 1.0) -> str:
    """Return the page as HTML, self-contained; equal pages give equal text.

    Args:
        page: what it says.
        paper: how much larger than US letter each side of its paper is, if it is printed.
    """
    return _template().render(page=page, chart=events_by_hour(page.hours), paper=paper)
