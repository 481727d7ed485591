"""Routes of a tenant's people and of what they did: members, invitations, the audit chain."""

from __future__ import annotations

from typing import Final

from fastapi import Response

from dashboards.portal import queries
from dashboards.portal.api import models
from dashboards.portal.api.call import (
    ApiRoute,
    Asked,
    Cursor,
    Limit,
    etag,
    not_found,
    page_of,
    read_cursor,
    write_cursor,
)
from tenancy import members as people


def members(call: Asked, cursor: Cursor = None, limit: Limit = 100) -> models.Page[models.Member]:
    """List members in the order they joined."""
    return page_of(_members(call), lambda one: one.person_id, ["members"], cursor, limit)


def member(call: Asked, person_id: str, response: Response) -> models.Member:
    """Show a member."""
    found = _member(call, person_id)
    response.headers["ETag"] = etag(found)
    return found


def change_role(call: Asked, person_id: str, wanted: models.NewRole, response: Response) -> models.Member:
    """Make a Member an Admin, or the reverse; it counts from their next request."""
    call.require_match(_member(call, person_id))
    people.change_role(call.db, call.scope.tenant_id, person_id, wanted.role)
    found = _member(call, person_id)
    response.headers["ETag"] = etag(found)
    return found


def remove(call: Asked, person_id: str) -> None:
    """End a membership; the last Admin stays."""
    call.require_match(_member(call, person_id))
    people.remove_member(call.db, call.scope.tenant_id, person_id)


def invitations(call: Asked, cursor: Cursor = None, limit: Limit = 100) -> models.Page[models.Invitation]:
    """List open invitations, oldest first."""
    return page_of(_invitations(call), lambda one: one.invitation_id, ["invitations"], cursor, limit)


def invite(call: Asked, wanted: models.NewInvitation) -> models.Invitation:
    """Invite somebody by their address; an open invitation of theirs is replaced."""
    made = people.invite(call.db, call.scope.tenant_id, wanted.email, wanted.role)
    return models.Invitation.model_validate(made)


def withdraw(call: Asked, invitation_id: str) -> None:
    """End an invitation."""
    for found in _invitations(call):
        if found.invitation_id == invitation_id:
            call.require_match(found)
            people.withdraw(call.db, call.scope.tenant_id, invitation_id)
            return
    raise not_found()


def audit(call: Asked, cursor: Cursor = None, limit: Limit = 100) -> models.Page[models.Record]:
    """List the audit chain's records, newest first."""
    records = queries.audit_of(call.db, call.scope)[0]
    if cursor is not None:
        (seq,) = read_cursor(["audit"], cursor, 1)
        records = [one for one in records if isinstance(seq, int) and one.seq < seq]
    newest = records[: -limit - 1 : -1]
    items = [models.Record(seq=one.seq, digest=one.digest, body=one.body, content=one.content) for one in newest]
    more = len(records) > limit
    return models.Page(items=items, next=write_cursor(["audit"], [items[-1].seq]) if more else None)


def verify(call: Asked) -> models.Verification:
    """Recompute the whole chain."""
    records, fault = queries.audit_of(call.db, call.scope)
    head = records[-1].digest if records else None
    return models.Verification(holds=fault is None, records=len(records), head_digest=head, fault=fault)


def _members(call: Asked) -> list[models.Member]:
    return [models.Member.model_validate(one) for one in queries.team_of(call.db, call.scope)[0]]


def _invitations(call: Asked) -> list[models.Invitation]:
    return [models.Invitation.model_validate(one) for one in queries.team_of(call.db, call.scope)[1]]


def _member(call: Asked, person_id: str) -> models.Member:
    for found in _members(call):
        if found.person_id == person_id:
            return found
    raise not_found()


ROUTES: Final = (
    ApiRoute("GET", "/team/members", "read:team", members),
    ApiRoute("GET", "/team/members/{person_id}", "read:team", member),
    ApiRoute("PATCH", "/team/members/{person_id}", "write:team", change_role, conditional=True),
    ApiRoute("DELETE", "/team/members/{person_id}", "write:team", remove, 204, conditional=True),
    ApiRoute("GET", "/team/invitations", "read:team", invitations),
    ApiRoute("POST", "/team/invitations", "write:team", invite, 201),
    ApiRoute("DELETE", "/team/invitations/{invitation_id}", "write:team", withdraw, 204, conditional=True),
    ApiRoute("GET", "/audit", "read:audit", audit),
    ApiRoute("GET", "/audit/verification", "read:audit", verify),
)
