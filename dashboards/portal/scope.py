"""Whose data a request may touch: every query takes a scope, and only authentication makes one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tenancy.database import Database
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
