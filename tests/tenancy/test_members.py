"""Members and sessions: who may look at what, until when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tenancy import members, sessions
from tenancy.audit import read_chain
from tenancy.database import Database
from tenancy.people import person_of
from tenancy.tenants import create_tenant

IDLE, LONGEST = timedelta(hours=1), timedelta(hours=12)


@pytest.fixture
def admin(db: Database) -> str:
    create_tenant(db, "acme")
    person = person_of(db, "ada@acme.example")
    members.invite(db, "acme", "Ada@acme.example ", "admin")
    assert members.accept(db, person, "ada@acme.example") == 1
    return person


def test_an_invitation_makes_a_member_once_and_is_on_the_chain_without_the_address(db: Database, admin: str) -> None:
    assert members.memberships(db, admin) == {"acme": "admin"}
    assert members.accept(db, admin, "ada@acme.example") == 0
    _, records = read_chain(db, "acme")
    assert [record.content["act"] for record in records] == ["tenant.create", "member.invite", "member.join"]
    assert not any("ada" in record.body for record in records)


def test_an_expired_or_withdrawn_invitation_makes_nobody_a_member(db: Database, admin: str, clock: Any) -> None:
    bob = person_of(db, "bob@acme.example")
    members.invite(db, "acme", "bob@acme.example", "member")
    clock.move(86_400 * members.INVITATION_DAYS)
    assert members.accept(db, bob, "bob@acme.example") == 0
    invitation = members.invite(db, "acme", "bob@acme.example", "member")
    members.withdraw(db, "acme", invitation.invitation_id)
    assert members.accept(db, bob, "bob@acme.example") == 0
    assert members.memberships(db, bob) == {}


def test_the_last_admin_can_neither_step_down_nor_leave(db: Database, admin: str) -> None:
    for act in (
        lambda: members.change_role(db, "acme", admin, "member"),
        lambda: members.remove_member(db, "acme", admin),
    ):
        with pytest.raises(members.LastAdminError):
            act()
    bob = person_of(db, "bob@acme.example")
    members.invite(db, "acme", "bob@acme.example", "admin")
    members.accept(db, bob, "bob@acme.example")
    members.remove_member(db, "acme", admin)
    assert members.memberships(db, admin) == {}
    with pytest.raises(members.LastAdminError):
        members.change_role(db, "acme", bob, "member")


def test_no_tenant_reaches_into_anothers_members(db: Database, admin: str) -> None:
    create_tenant(db, "bolt")
    invitation = members.invite(db, "acme", "bob@acme.example", "member")
    with pytest.raises(ValueError, match="no such member"):
        members.remove_member(db, "bolt", admin)
    with pytest.raises(ValueError, match="no such invitation"):
        members.withdraw(db, "bolt", invitation.invitation_id)


@pytest.mark.parametrize("text", ["", "ada", "a@b", "login:root@acme.example", "a b@acme.example", "ä@acme.example"])
def test_what_is_no_address_is_not_invited(db: Database, admin: str, text: str) -> None:
    with pytest.raises(ValueError, match="e-mail"):
        members.invite(db, "acme", text, "member")


def test_a_session_ends_by_idleness_by_age_and_by_logout(db: Database, admin: str, clock: Any) -> None:
    idle = sessions.start_session(db, admin)
    assert sessions.session_of(db, idle, IDLE, LONGEST) == admin
    clock.move(3600)
    assert sessions.session_of(db, idle, IDLE, LONGEST) is None
    old = sessions.start_session(db, admin)
    for _ in range(13):
        clock.move(3500)
        last = sessions.session_of(db, old, IDLE, LONGEST)
    assert last is None
    left = sessions.start_session(db, admin)
    sessions.end_session(db, left)
    assert sessions.session_of(db, left, IDLE, LONGEST) is None
    assert len({idle, old, left}) == 3


def test_a_login_is_linked_by_its_address_only_if_the_provider_vouches_for_it(db: Database, admin: str) -> None:
    with pytest.raises(sessions.UnverifiedError):
        sessions.person_for(db, "https://id.example", "7", "ada@acme.example", verified=False)
    assert sessions.person_for(db, "https://id.example", "7", "Ada@Acme.example", verified=True) == admin
    assert sessions.person_for(db, "https://id.example", "7", None, verified=False) == admin


def test_a_begun_login_is_taken_once_and_only_in_time(db: Database, clock: Any) -> None:
    secret, attempt = sessions.begin_login(db)
    assert sessions.take_attempt(db, "other") is None
    assert sessions.take_attempt(db, secret) == attempt
    assert sessions.take_attempt(db, secret) is None
    late, _ = sessions.begin_login(db)
    clock.move(sessions.ATTEMPT_S + 1)
    assert sessions.take_attempt(db, late) is None
