"""One tenant's day against the rules: the findings of the day, replaced in their table."""

from __future__ import annotations

from datetime import date, timedelta

from pipelines.findings.rules import rules
from pipelines.findings.scan import scan
from pipelines.findings.state import QUIET_DAYS, grouped, settle
from pipelines.tables import TenantTables
from pipelines.tenant_loop import Counts
from tenancy.findings import closings, suppressions


def make_findings(tables: TenantTables, day: date) -> Counts:
    """Replace a day of `findings`; told again from the same data and the same words of people, it is the same."""
    snapshot = tables.snapshot("events", "completeness", "findings")
    matches = scan(snapshot.scan("events", day, day), snapshot.scan("completeness", day, day), rules())
    today = grouped(matches, rules(), suppressions(tables.db, tables.tenant, day), day)
    since, yesterday = day - timedelta(days=QUIET_DAYS), day - timedelta(days=1)
    before = snapshot.scan("findings", since, yesterday).collect()
    settled = settle(today, before, closings(tables.db, tables.tenant), day)
    tables.replace_day("findings", settled, day)
    states = dict(settled.group_by("state").len().iter_rows())
    return {name: int(states.get(name, 0)) for name in ("opened", "ongoing", "quiet", "closed", "suppressed")}
