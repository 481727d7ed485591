"""Whose data a request may touch: every query takes a scope, and only authentication makes one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tenancy.api_keys import ApiKey, authenticate_key
from tenancy.database import Database
from tenancy.limits import SourceLimiter
from tenancy.members import Role, memberships

_MADE_HERE: Final = object()


@dataclass(frozen=True)
class TenantScope:
    """A person's right to look at one tenant, as of this request."""

    tenant_id: str
    person_id: str
    role: Role
    key: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse to be made anywhere else.

        Raises:
            TypeError: `scope_for` did not make it.
        """
        if self.key is not _MADE_HERE:
            raise TypeError("a TenantScope is made by authentication alone")


def scope_for(db: Database, person_id: str, tenant_id: str) -> TenantScope | None:
    """Return a person's scope in a tenant, None if they are no member: asked anew for each request."""
    role = memberships(db, person_id).get(tenant_id)
    return None if role is None else TenantScope(tenant_id, person_id, role, _MADE_HERE)


def scope_by_key(db: Database, token: str, source: str, limiter: SourceLimiter) -> tuple[TenantScope, ApiKey]:
    """Return the scope of whoever shows an API key, and the key, which says what of it they may use.

    Raises:
        Problem: 401, 429 or 503, as `authenticate_key` says.
    """
    key = authenticate_key(db, token, source, limiter)
    role: Role = "admin" if any(scope.startswith("write:") for scope in key.scopes) else "member"
    return TenantScope(key.tenant_id, key.key_id, role, _MADE_HERE), key
