"""Retention and deletion: what is held, for how long, and how an Admin has all of it erased."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from starlette.responses import Response

from dashboards.portal import receipts
from dashboards.portal.call import Call, Route, day_asked
from dashboards.portal.scope import TenantScope
from kaimon.base.problems import Problem
from lake.held import TableDay, held_by_day
from lake.settings import LakeSettings
from tenancy.database import Database
from tenancy.erasure_requests import ErasureRequest, NotNowError, request_erasure, request_of, withdraw_erasure
from tenancy.erasures import get_erasure
from tenancy.people import names
from tenancy.retention import GRACE, Kept, kept
from tenancy.tenants import Tenant, get_tenant

DAYS: Final = 31


@dataclass(frozen=True)
class TableHeld:
    """A table as it is now: files, bytes, rows (None: not known), and its first and last UTC day (None: has none)."""

    table: str
    files: int
    bytes: int
    rows: int | None
    oldest: date | None
    newest: date | None


@dataclass(frozen=True)
class DayHeld:
    """A UTC day: the bytes of all tables kept by day, and those of the events among them with their rows."""

    day: date
    bytes: int
    event_bytes: int
    events: int | None


@dataclass(frozen=True)
class Policy:
    """How long a tenant's data is kept, and what was asked for; `begun`: its erasure is under way."""

    tenant: Tenant
    kept: Kept
    asked: ErasureRequest | None
    begun: bool


def held_of(scope: TenantScope, lake: LakeSettings) -> list[TableDay]:
    """Return what the tenant's tables hold, by table and day."""
    return held_by_day(scope.tenant_id, lake)


def tables_of(found: Iterable[TableDay]) -> list[TableHeld]:
    """Return each table with all of its days, in the order in which they come."""
    by_table: dict[str, list[TableDay]] = {}
    for one in found:
        by_table.setdefault(one.table, []).append(one)
    told = []
    for table, within in by_table.items():
        days = [one.day for one in within if one.day is not None]
        told.append(
            TableHeld(
                table,
                sum(one.files for one in within),
                sum(one.bytes for one in within),
                _sum(one.rows for one in within),
                min(days, default=None),
                max(days, default=None),
            )
        )
    return told


def days_of(found: Iterable[TableDay]) -> list[DayHeld]:
    """Return each day of which anything is held, the newest first."""
    by_day: dict[date, list[TableDay]] = {}
    for one in found:
        if one.day is not None:
            by_day.setdefault(one.day, []).append(one)
    told = []
    for day, within in sorted(by_day.items(), reverse=True):
        events = [one for one in within if one.table == "events"]
        sizes = sum(one.bytes for one in within), sum(one.bytes for one in events)
        told.append(DayHeld(day, *sizes, _sum(one.rows for one in events)))
    return told


def policy_of(db: Database, scope: TenantScope) -> Policy:
    """Return how long the tenant's data is kept, and whether somebody has asked for its erasure.

    Raises:
        Problem: 404, it was erased meanwhile.
    """
    tenant = get_tenant(db, scope.tenant_id)
    if tenant is None:
        raise Problem(404, "not_found", "Not found")
    begun = get_erasure(db, scope.tenant_id) is not None
    return Policy(tenant, kept(tenant, db), request_of(db, scope.tenant_id), begun)


def retention(call: Call) -> Response:
    """Show what is held and for how long, and the state of a request to erase it."""
    policy, found = policy_of(call.db, call.scope), held_of(call.scope, call.lake)
    days = days_of(found)
    newest = day_asked(call, otherwise=days[0].day if days else None)
    shown = [one for one in days if one.day <= newest]
    return call.page(
        "retention.html",
        policy=policy,
        grace=GRACE.days,
        hours=call.db.settings.erasure_grace_hours,
        tables=tables_of(found),
        days=shown[:DAYS],
        older=shown[DAYS].day if len(shown) > DAYS else None,
        newer=newest + timedelta(days=1) if len(shown) < len(days) else None,
        names=names(call.db),
        key=receipts.public_key(call.db.settings),
    )


def consequences(call: Call) -> Response:
    """Show what an erasure ends, and ask for the tenant's name."""
    policy = policy_of(call.db, call.scope)
    if policy.begun or policy.asked is not None:
        raise _not_now("Its erasure was asked for already, or has begun.")
    return call.page("erase.html", tenant=policy.tenant, hours=call.db.settings.erasure_grace_hours)


def erase(call: Call) -> Response:
    """Ask for the erasure of everything, and show the link to its receipt, this once."""
    tenant = policy_of(call.db, call.scope).tenant
    if call.form.get("name", "").strip() != tenant.name.strip():
        told = "What was typed is not the tenant's name. Nothing has changed."
        raise Problem(400, "name_differs", "Not its name", told)
    try:
        asked, code = request_erasure(call.db, call.scope.tenant_id)
    except NotNowError as error:
        raise _not_now(str(error)) from error
    return call.page("erase_asked.html", asked=asked, link=f"{call.settings.portal_url}{receipts.address(code)}")


def withdraw(call: Call) -> Response:
    """Take the request back."""
    try:
        withdraw_erasure(call.db, call.scope.tenant_id)
    except NotNowError as error:
        raise _not_now(str(error)) from error
    return call.to("retention")


def _not_now(told: str) -> Problem:
    return Problem(409, "not_now", "Not now", told)


def _sum(numbers: Iterable[int | None]) -> int | None:
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


ROUTES: Final = (
    Route("GET", "retention", "member", retention),
    Route("GET", "retention/erase", "admin", consequences),
    Route("POST", "retention/erase", "admin", erase),
    Route("POST", "retention/withdraw", "admin", withdraw),
)
