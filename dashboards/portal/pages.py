"""The pages of a tenant and the changes they offer: the one table of routes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from starlette.responses import Response

from dashboards.portal import billing, exploring, hosts, keys, quality, queries, reports, retention, security
from dashboards.portal.call import Call, Route, day_asked
from dashboards.portal.changes import changed_on
from dashboards.portal.question import Question
from dashboards.reports.charts import Bar, events_by_time, words_of
from dashboards.reports.page import HourBar
from kaimon.base.problems import Problem
from tenancy import members
from tenancy.enrollment import create_token, revoke_token
from tenancy.people import names


def overview(call: Call) -> Response:
    """Show a day: events an hour, what is known of them, hosts, what is open and what changed."""
    day = day_asked(call)
    found = queries.day_of(call.scope, day, call.now, call.lake)
    return call.page(
        "overview.html",
        found=found,
        changed=changed_on(call.db, call.scope, day, call.lake),
        chart=events_by_time(_bars(call, day, found.hours), words_of(found.hours)),
        enrolled=queries.enrolled_of(call.db, call.scope),
        before=day - timedelta(days=1),
        after=day + timedelta(days=1) if day < call.now.date() else None,
    )


def _bars(call: Call, day: date, hours: Sequence[HourBar | None]) -> list[Bar]:
    """Return a day's hours as bars that lead to their events."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    starts = [midnight + timedelta(hours=number) for number in range(len(hours))]
    page = f"/t/{call.scope.tenant_id}/activity"
    return [
        Bar(f"{start:%H:%M}", hour, f"{page}?{Question(start, start + timedelta(hours=1)).address()}")
        for start, hour in zip(starts, hours, strict=True)
    ]


def findings(call: Call) -> Response:
    """Show what the rules saw on a day."""
    day = day_asked(call)
    return call.page(
        "findings.html",
        day=day,
        rows=queries.findings_of(call.scope, day, call.lake),
        before=day - timedelta(days=1),
        after=day + timedelta(days=1) if day < call.now.date() else None,
    )


def tokens(call: Call) -> Response:
    """Show the enrollment tokens."""
    return call.page("tokens.html", tokens=queries.tokens_of(call.db, call.scope), secret=None)


def create(call: Call) -> Response:
    """Make an enrollment token and show it, this once."""
    try:
        days, uses = float(call.form.get("days") or 7), int(call.form.get("uses") or 1)
    except ValueError:
        days, uses = 0.0, 0
    if not 0 < days <= 3650 or not 0 < uses <= 100_000:
        raise Problem(400, "bad_token", "Not a token", "Want 1 to 3650 days and 1 to 100000 hosts.")
    label = call.form.get("label", "").strip()[:100] or None
    _, secret = create_token(call.db, call.scope.tenant_id, label, timedelta(days=days), uses)
    return call.page("tokens.html", tokens=queries.tokens_of(call.db, call.scope), secret=secret)


def consequences(call: Call) -> Response:
    """Show what a revocation will end, before it does."""
    wanted = call.query.get("token", "")
    found = [pair for pair in queries.tokens_of(call.db, call.scope) if pair[0].token_id == wanted]
    if not found:
        raise Problem(404, "not_found", "Not found")
    all_hosts = queries.hosts_of(call.db, call.scope, call.lake)
    lost = [host for host in all_hosts if host.token_id == wanted and host.revoked_at is None]
    return call.page("revoke.html", token=found[0][0], hosts=lost)


def revoke(call: Call) -> Response:
    """Revoke a token and every credential it issued."""
    revoke_token(call.db, call.scope.tenant_id, call.form.get("token", ""))
    return call.to("tokens")


def team(call: Call) -> Response:
    """Show who may look at this tenant."""
    people, open_ = queries.team_of(call.db, call.scope)
    return call.page("team.html", members=people, invitations=open_)


def invite(call: Call) -> Response:
    """Invite somebody by their address."""
    role = members.role_named(call.form.get("role", ""))
    members.invite(call.db, call.scope.tenant_id, call.form.get("email", ""), role)
    return call.to("team")


def withdraw(call: Call) -> Response:
    """End an invitation."""
    members.withdraw(call.db, call.scope.tenant_id, call.form.get("invitation", ""))
    return call.to("team")


def change_role(call: Call) -> Response:
    """Make a Member an Admin, or the reverse."""
    role = members.role_named(call.form.get("role", ""))
    members.change_role(call.db, call.scope.tenant_id, call.form.get("person", ""), role)
    return call.to("team")


def remove(call: Call) -> Response:
    """End a membership."""
    members.remove_member(call.db, call.scope.tenant_id, call.form.get("person", ""))
    return call.to("team")


def audit(call: Call) -> Response:
    """Show the newest records of the tenant's chain, and whether it holds."""
    records, fault = queries.audit_of(call.db, call.scope)
    return call.page(
        "audit.html",
        fault=fault,
        records=[record.content for record in reversed(records[-200:])],
        total=len(records),
        names=names(call.db),
    )


ROUTES: Final = (
    Route("GET", "", "member", overview),
    Route("GET", "findings", "member", findings),
    Route("GET", "tokens", "member", tokens),
    Route("POST", "tokens", "admin", create),
    Route("GET", "tokens/revoke", "admin", consequences),
    Route("POST", "tokens/revoke", "admin", revoke),
    Route("GET", "team", "member", team),
    Route("POST", "team/invite", "admin", invite),
    Route("POST", "team/withdraw", "admin", withdraw),
    Route("POST", "team/role", "admin", change_role),
    Route("POST", "team/remove", "admin", remove),
    Route("GET", "audit", "admin", audit),
    *exploring.ROUTES,
    *hosts.ROUTES,
    *reports.ROUTES,
    *quality.ROUTES,
    *keys.ROUTES,
    *billing.ROUTES,
    *retention.ROUTES,
    *security.ROUTES,
)
"""Below `/t/{tenant}/`; the tests' matrix of roles and tenants is made from this."""
