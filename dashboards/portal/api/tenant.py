"""Routes of what the control plane knows of a tenant: its key, hosts, tokens, subscription and retention."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Final

from fastapi import Query, Response

from dashboards.portal import queries
from dashboards.portal.api import models
from dashboards.portal.api.call import (
    ApiRoute,
    Asked,
    Cursor,
    Limit,
    day_or_today,
    etag,
    not_found,
    page_of,
)
from dashboards.portal.retention import held_of, policy_of, tables_of
from dashboards.portal.usage import usage_of
from kaimon.base.problems import Problem
from tenancy.enrollment import EnrollmentToken, create_token, revoke_token
from tenancy.subscriptions import subscription_in
from tenancy.tenants import Tenant, get_tenant, use_of

LONGEST_USAGE: Final = 92
"""Days that one question about usage may span."""


def key(call: Asked) -> models.Key:
    """Say whose key this is and what it may do."""
    return models.Key.model_validate(call.key)


def hosts(call: Asked, cursor: Cursor = None, limit: Limit = 100) -> models.Page[models.Host]:
    """List hosts as they enrolled, revoked ones too."""
    found = [models.Host.model_validate(host) for host in queries.hosts_of(call.db, call.scope, call.lake)]
    return page_of(found, lambda host: host.agent_id, ["hosts"], cursor, limit)


def host(call: Asked, agent_id: str) -> models.Host:
    """Show a host."""
    for found in queries.hosts_of(call.db, call.scope, call.lake):
        if found.agent_id == agent_id:
            return models.Host.model_validate(found)
    raise not_found()


def tokens(call: Asked, cursor: Cursor = None, limit: Limit = 100) -> models.Page[models.Token]:
    """List enrollment tokens, oldest first, spent and revoked ones too."""
    found = [_token(token, live) for token, live in queries.tokens_of(call.db, call.scope)]
    return page_of(found, lambda token: token.token_id, ["tokens"], cursor, limit)


def token(call: Asked, token_id: str, response: Response) -> models.Token:
    """Show an enrollment token."""
    found = _found(call, token_id)
    response.headers["ETag"] = etag(found)
    return found


def make_token(call: Asked, wanted: models.NewToken, response: Response) -> models.MadeToken:
    """Make an enrollment token; its secret is in this answer alone."""
    lifetime = timedelta(days=wanted.expires_in_days)
    made, secret = create_token(call.db, call.scope.tenant_id, wanted.label, lifetime, wanted.max_uses)
    found = _token(made, 0)
    response.headers["ETag"] = etag(found)
    response.headers["Location"] = f"/api/v1/tokens/{made.token_id}"
    return models.MadeToken(token=found, secret=secret)


def end_token(call: Asked, token_id: str) -> models.Revoked:
    """Revoke an enrollment token and every credential it issued; refused within a second."""
    call.require_match(_found(call, token_id))
    return models.Revoked(credentials_ended=revoke_token(call.db, call.scope.tenant_id, token_id))


def subscription(call: Asked) -> models.Subscription:
    """Show what was agreed and what is used of it."""
    tenant = _tenant(call)
    agreed, use = subscription_in(tenant, call.db.settings), use_of(call.db, tenant.tenant_id)
    return models.Subscription(
        state=agreed.state_at(call.now),
        since=agreed.since,
        ends_at=agreed.ends_at,
        max_hosts=agreed.max_hosts,
        max_daily_events=agreed.max_daily_events,
        hosts=use.hosts,
        events_today=use.events_today,
    )


def usage(
    call: Asked,
    from_: Annotated[date | None, Query(alias="from", description="30 days before `to` if not given.")] = None,
    to: Annotated[date | None, Query(description="Today if not given.")] = None,
) -> models.Usage:
    """List what was sent, by UTC day: at most 92 of them."""
    last = day_or_today(to, call.now)
    first = last - timedelta(days=30) if from_ is None else day_or_today(from_, call.now)
    if not 0 <= (last - first).days < LONGEST_USAGE:
        told = f"Want `from` no later than `to`, and at most {LONGEST_USAGE} days."
        raise Problem(400, "bad_range", "Not a range", told)
    found = usage_of(call.scope, first, last, call.lake)
    return models.Usage(days=[models.DayUse.model_validate(one) for one in found])


def retention(call: Asked) -> models.Retention:
    """Show what is held, for how long, and whether its erasure was asked for."""
    policy = policy_of(call.db, call.scope)
    asked = policy.asked
    return models.Retention(
        keep_days=policy.tenant.keep_days,
        before=policy.kept.before,
        erase_at=policy.kept.erase_at,
        requested=None if asked is None else models.ErasureRequest.model_validate(asked),
        begun=policy.begun,
        tables=[models.TableHeld.model_validate(one) for one in tables_of(held_of(call.scope, call.lake))],
    )


def held(call: Asked, cursor: Cursor = None, limit: Limit = 100) -> models.Page[models.TableDay]:
    """List what is held, by table and UTC day."""
    found = [models.TableDay.model_validate(one) for one in held_of(call.scope, call.lake)]
    return page_of(found, lambda one: f"{one.table}/{one.day}", ["held"], cursor, limit)


def _tenant(call: Asked) -> Tenant:
    tenant = get_tenant(call.db, call.scope.tenant_id)
    if tenant is None:
        raise not_found()
    return tenant


def _found(call: Asked, token_id: str) -> models.Token:
    for found, live in queries.tokens_of(call.db, call.scope):
        if found.token_id == token_id:
            return _token(found, live)
    raise not_found()


def _token(found: EnrollmentToken, live: int) -> models.Token:
    return models.Token.model_validate(vars(found) | {"live_hosts": live})


ROUTES: Final = (
    ApiRoute("GET", "/key", None, key),
    ApiRoute("GET", "/hosts", "read:hosts", hosts),
    ApiRoute("GET", "/hosts/{agent_id}", "read:hosts", host),
    ApiRoute("GET", "/tokens", "read:tokens", tokens),
    ApiRoute("POST", "/tokens", "write:tokens", make_token, 201),
    ApiRoute("GET", "/tokens/{token_id}", "read:tokens", token),
    ApiRoute("DELETE", "/tokens/{token_id}", "write:tokens", end_token, conditional=True),
    ApiRoute("GET", "/subscription", "read:subscription", subscription),
    ApiRoute("GET", "/usage", "read:subscription", usage),
    ApiRoute("GET", "/retention", "read:retention", retention),
    ApiRoute("GET", "/retention/held", "read:retention", held),
)
