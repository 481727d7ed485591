"""The pages of a tenant and the changes they offer: the one table of routes."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from starlette.responses import Response

from dashboards.portal import billing, keys, quality, queries, reports
from dashboards.portal.activity import CSV_ROWS, FILTERS, PAGE_ROWS, as_csv, rows_of
from dashboards.portal.call import Call, Route, day_asked
from dashboards.reports.charts import events_by_hour
from kaimon.base.problems import Problem
from tenancy import members
from tenancy.enrollment import create_token, revoke_token
from tenancy.people import names


def overview(call: Call) -> Response:
    """Show a day: events an hour, what is known of them, hosts."""
    day = day_asked(call)
    found = queries.day_of(call.scope, day, call.now, call.lake)
    return call.page(
        "overview.html",
        found=found,
        chart=events_by_hour(found.hours),
        enrolled=[host for host in queries.hosts_of(call.db, call.scope, call.lake) if host.revoked_at is None],
        before=day - timedelta(days=1),
        after=day + timedelta(days=1) if day < call.now.date() else None,
    )


def activity(call: Call) -> Response:
    """Show events of a day, or of several, filtered."""
    day = day_asked(call)
    first = day_asked(call, "from", day)
    found = rows_of(call.scope, day, call.query, PAGE_ROWS, call.lake, first_day=first)
    kept = {name: value for name, value in call.query.items() if name in FILTERS and value}
    same = {"from": first.isoformat(), "day": day.isoformat()} | kept
    more = None if found.cursor is None else urlencode(same | {"after": found.cursor})
    return call.page("activity.html", day=day, first=first, found=found, same=urlencode(same), more=more)


def activity_csv(call: Call) -> Response:
    """Hand out the same events as a file."""
    day = day_asked(call)
    text = as_csv(rows_of(call.scope, day, call.query, CSV_ROWS, call.lake, first_day=day_asked(call, "from", day)))
    headers = {"Content-Disposition": 'attachment; filename="activity.csv"'}
    return Response(text, media_type="text/csv", headers=headers)


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


def hosts(call: Call) -> Response:
    """Show the hosts, and how to add one."""
    return call.page("hosts.html", hosts=queries.hosts_of(call.db, call.scope, call.lake))


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
    Route("GET", "activity", "member", activity),
    Route("GET", "activity.csv", "member", activity_csv),
    Route("GET", "findings", "member", findings),
    Route("GET", "hosts", "member", hosts),
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
    *reports.ROUTES,
    *quality.ROUTES,
    *keys.ROUTES,
    *billing.ROUTES,
)
"""Below `/t/{tenant}/`; the tests' matrix of roles and tenants is made from this."""
