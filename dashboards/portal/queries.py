"""What pages show of a tenant: every function takes the scope that authentication made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import polars as pl

from dashboards.portal.scope import TenantScope
from dashboards.reports.page import HourBar
from lake.coverage import Coverage, coverage
from lake.reads import scan
from lake.settings import LakeSettings
from tenancy import enrollment, hosts
from tenancy.audit import AuditRecord, read_chain
from tenancy.audit_verify import verify_chain
from tenancy.database import Database
from tenancy.enrollment import EnrollmentToken
from tenancy.members import Invitation, Member, list_invitations, list_members

_GRAVE: Final = {"critical": 0, "high": 1, "medium": 2, "low": 3}
GRAVEST_FIRST: Final = (pl.col("severity").replace_strict(_GRAVE, return_dtype=pl.Int32), pl.col("finding_id"))
"""The order of findings."""


@dataclass(frozen=True)
class HostRow:
    """A host: what enrollment knows, and what its newest batch said; None where none has landed."""

    agent_id: str
    hostname: str
    token_id: str
    enrolled_at: datetime
    revoked_at: datetime | None
    last_seen: datetime | None
    agent_version: str | None
    capture_mode: str | None
    blind_spots: tuple[str, ...] | None


@dataclass(frozen=True)
class Day:
    """A UTC day: bars by hour (None where nothing is computed yet), its sum, and what the ledger vouches for.

    `before` is the sum of the day before, None where nothing is computed of it.
    """

    day: date
    hours: tuple[HourBar | None, ...]
    events: int | None
    known: Coverage
    before: int | None


def day_of(scope: TenantScope, day: date, now: datetime, lake: LakeSettings) -> Day:
    """Return a UTC day of the scope's tenant, from its rollups and ledger."""
    state = pl.col("state")
    both = (
        scan(scope.tenant_id, "completeness", day - timedelta(days=1), day, lake)
        .group_by("event_day", "hour")
        .agg(
            pl.col("captured").sum(),
            **{name: (state == name).sum() for name in ("complete", "partial", "unknown", "not_monitored")},
        )
        .collect()
    )
    rows, before = both.filter(pl.col("event_day") == day).drop("event_day"), both.filter(pl.col("event_day") != day)
    bars: list[HourBar | None] = [None] * 24
    for row in rows.iter_rows(named=True):
        hour = row.pop("hour").hour
        bars[hour] = HourBar(events=row.pop("captured"), **row)
    first = datetime(day.year, day.month, day.day, tzinfo=now.tzinfo)
    known = coverage(scope.tenant_id, first, min(first + timedelta(days=1), max(now, first)), now, lake)
    return Day(day, tuple(bars), _captured(rows), known, _captured(before))


def _captured(hours: pl.DataFrame) -> int | None:
    return int(hours["captured"].sum()) if hours.height else None


def hosts_of(db: Database, scope: TenantScope, lake: LakeSettings) -> list[HostRow]:
    """Return the tenant's hosts as they enrolled, with what is known of each."""
    seen = {row["agent_id"]: row for row in scan(scope.tenant_id, "hosts", settings=lake).collect().to_dicts()}
    rows = []
    for host in hosts.list_hosts(db, scope.tenant_id):
        found = seen.get(host.agent_id, {})
        spots = found.get("blind_spots")
        rows.append(
            HostRow(
                host.agent_id,
                host.hostname,
                host.token_id,
                host.enrolled_at,
                host.revoked_at,
                found.get("last_seen"),
                found.get("agent_version"),
                found.get("capture_mode"),
                None if spots is None else tuple(spots),
            )
        )
    return rows


def enrolled_of(db: Database, scope: TenantScope) -> int:
    """Return how many of the tenant's hosts may send, for which no table is opened."""
    return sum(host.revoked_at is None for host in hosts.list_hosts(db, scope.tenant_id))


def tokens_of(db: Database, scope: TenantScope) -> list[tuple[EnrollmentToken, int]]:
    """Return the tenant's enrollment tokens, each with how many hosts that still speak it enrolled."""
    live = [host.token_id for host in hosts.list_hosts(db, scope.tenant_id) if host.revoked_at is None]
    return [(token, live.count(token.token_id)) for token in enrollment.list_tokens(db, scope.tenant_id)]


def team_of(db: Database, scope: TenantScope) -> tuple[list[Member], list[Invitation]]:
    """Return the tenant's members and open invitations."""
    return list_members(db, scope.tenant_id), list_invitations(db, scope.tenant_id)


def audit_of(db: Database, scope: TenantScope) -> tuple[list[AuditRecord], str | None]:
    """Return the tenant's audit chain and what is wrong with it, None if it holds."""
    head, records = read_chain(db, scope.tenant_id)
    fault = verify_chain(scope.tenant_id, head, records)
    return records, None if fault is None else f"record {fault.seq}: {fault.why}"


def findings_of(scope: TenantScope, day: date, lake: LakeSettings) -> list[dict[str, Any]]:
    """Return the tenant's findings of a UTC day, the gravest first."""
    return scan(scope.tenant_id, "findings", day, day, lake).sort(GRAVEST_FIRST).head(500).collect().to_dicts()
