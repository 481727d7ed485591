"""One request of somebody who is logged in, and the pages that answer it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dashboards.portal.processor import Processor
from dashboards.portal.scope import TenantScope
from dashboards.portal.settings import PortalSettings
from dashboards.reports.names import visible
from kaimon.base.problems import Problem
from lake.settings import LakeSettings
from tenancy.database import Database
from tenancy.erasure_requests import ErasureRequest, request_of
from tenancy.members import Role

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""What a page may do: nothing but be seen, and send its forms here."""


@dataclass(frozen=True)
class Call:
    """What a page may use: `scope` is the only way to a tenant's data."""

    db: Database
    lake: LakeSettings
    settings: PortalSettings
    scope: TenantScope
    name: str
    csrf: str
    query: dict[str, str]
    form: dict[str, str]
    now: datetime
    processor: Processor

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page of this tenant."""
        return html(template, status, call=self, here=template.removesuffix(".html"), **values)

    def erasing(self) -> ErasureRequest | None:
        """Return the request to erase the tenant, which each of its pages tells; None if there is none."""
        return request_of(self.db, self.scope.tenant_id)

    def to(self, page: str) -> Response:
        """Send the browser to another page of this tenant, after a change."""
        return RedirectResponse(f"/t/{self.scope.tenant_id}/{page}", status_code=303)


@dataclass(frozen=True)
class Route:
    """A page of a tenant, or a change: who may, and what it does."""

    method: str
    path: str
    role: Role
    answer: Callable[[Call], Response]


def day_asked(call: Call, name: str = "day", otherwise: date | None = None) -> date:
    """Return the UTC day that a page is asked for by `name`; if by none `otherwise`, or today.

    Raises:
        Problem: 400, it is no day.
    """
    try:
        return date.fromisoformat(call.query.get(name) or (otherwise or call.now.date()).isoformat())
    except ValueError as error:
        raise Problem(400, "bad_day", "Not a day", "Write a day as 2026-03-04.") from error


def csrf_of(secret: str) -> str:
    """Return the token that a session's forms bear: nobody who does not hold the session can know it."""
    return hashlib.sha256(f"csrf {secret}".encode()).hexdigest()


def html(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page."""
    return HTMLResponse(_environment().get_template(template).render(**values), status)


def _moment(moment: datetime | None) -> str:
    return _UNKNOWN if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def _number(value: int | None) -> str:
    return _UNKNOWN if value is None else f"{value:,}"


_UNKNOWN: Final = "—"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("dashboards.portal"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"visible": visible, "moment": _moment, "number": _number}
    return made
