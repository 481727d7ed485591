"""The page of API keys: what a tenant's programs may do, made and ended here."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from starlette.responses import Response

from dashboards.portal.call import Call, Route
from kaimon.base.problems import Problem
from tenancy.api_keys import LONGEST, SCOPES, ApiKey, create_api_key, list_api_keys, revoke_api_key


def keys(call: Call) -> Response:
    """Show the tenant's keys, and how to make one."""
    return _page(call, None)


def make(call: Call) -> Response:
    """Make a key and show it, this once."""
    days = call.form.get("days", "")
    if not days.isascii() or not days.isdigit() or not 1 <= int(days) <= LONGEST.days:
        raise Problem(400, "bad_key", "Not a life of a key", f"Want 1 to {LONGEST.days} days.")
    scopes = [scope for scope in (*SCOPES, "read:*") if call.form.get(scope) == "on"]
    label = call.form.get("label", "").strip()[:100] or None
    _, secret = create_api_key(call.db, call.scope.tenant_id, scopes, label, timedelta(days=int(days)))
    return _page(call, secret)


def consequences(call: Call) -> Response:
    """Show what a revocation will end, before it does."""
    return call.page("key.html", key=_found(call, call.query.get("key", "")))


def revoke(call: Call) -> Response:
    """Revoke a key."""
    revoke_api_key(call.db, call.scope.tenant_id, call.form.get("key", ""))
    return call.to("keys")


def _page(call: Call, secret: str | None) -> Response:
    return call.page("keys.html", keys=list_api_keys(call.db, call.scope.tenant_id), scopes=SCOPES, secret=secret)


def _found(call: Call, key_id: str) -> ApiKey:
    for key in list_api_keys(call.db, call.scope.tenant_id):
        if key.key_id == key_id:
            return key
    raise Problem(404, "not_found", "Not found")


ROUTES: Final = (
    Route("GET", "keys", "admin", keys),
    Route("POST", "keys", "admin", make),
    Route("GET", "keys/revoke", "admin", consequences),
    Route("POST", "keys/revoke", "admin", revoke),
)
