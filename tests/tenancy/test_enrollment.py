"""Enrollment tokens and what they issue."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kaimon.base.problems import Problem
from tenancy.audit import read_chain
from tenancy.credentials import Authenticator
from tenancy.database import Database
from tenancy.enrollment import Enrolled, create_token, enroll, list_tokens, revoke_token
from tenancy.hosts import list_hosts, revoke_host
from tenancy.limits import SourceLimiter
from tenancy.tenants import create_tenant, set_subscription
from tenancy.tokens import mint, parse

HOST = {"os": "debian 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None}

RACE = """
from pathlib import Path
from kaimon.base.problems import Problem
from tenancy.database import open_database
from tenancy.enrollment import enroll
from tenancy.settings import TenancySettings

def work(home, token_file):
    db = open_database(TenancySettings(home=Path(home)))
    token = Path(token_file).read_text()
    for _ in range(10):
        try:
            print(enroll(db, token, "web", {}, "boot", "0.1.0").agent_id)
        except Problem as problem:
            assert problem.detail == "the enrollment token is used up", problem
"""


def try_enroll(db: Database, token: str, **more: Any) -> Enrolled:
    return enroll(db, token, "web-1", HOST, "boot-1", "0.1.0", **more)


def refused(db: Database, token: str, **more: Any) -> Problem:
    before = [host for tenant in ("acme", "zeta") for host in list_hosts(db, tenant)]
    with pytest.raises(Problem) as caught:
        try_enroll(db, token, **more)
    assert [host for tenant in ("acme", "zeta") for host in list_hosts(db, tenant)] == before
    return caught.value


def test_a_token_is_shown_once_and_never_stored(db: Database, tenant: str, settings: Any) -> None:
    record, token = create_token(db, tenant, label="fleet", expires_in=timedelta(days=1), max_uses=3)
    assert parse(token, "enr") == token
    assert re.fullmatch(r"tok_[0-9a-f]{16}", record.token_id)
    assert (record.prefix, record.last_four) == ("kmn_enr_", token[-4:])
    assert list_tokens(db, tenant) == [record]
    enrolled = try_enroll(db, token)
    db.close()
    stored = b"".join(path.read_bytes() for path in settings.home.rglob("*") if path.is_file())
    for secret in (token, enrolled.credential):
        assert secret[8:-6].encode() not in stored
        assert secret.encode() not in stored


def test_a_host_that_enrolls_is_listed_with_its_name(db: Database, tenant: str, clock: Any) -> None:
    record, token = create_token(db, tenant)
    clock.move(60)
    enrolled = try_enroll(db, token)
    assert enrolled.tenant_id == tenant
    assert re.fullmatch(r"agt_[0-9a-f]{16}", enrolled.agent_id)
    assert parse(enrolled.credential, "hst") == enrolled.credential
    (host,) = list_hosts(db, tenant)
    assert (host.agent_id, host.hostname, host.token_id) == (enrolled.agent_id, "web-1", record.token_id)
    assert (host.enrolled_at, host.revoked_at) == (clock(), None)
    (used,) = list_tokens(db, tenant)
    assert (used.uses, used.last_used_at) == (1, clock())
    assert list_hosts(db, "zeta") == []


def test_every_enrollment_is_a_host_of_its_own(db: Database, tenant: str) -> None:
    _, token = create_token(db, tenant)
    assert len({try_enroll(db, token).agent_id for _ in range(5)}) == 5


def test_an_expired_token_is_refused_from_its_moment_on(db: Database, tenant: str, clock: Any) -> None:
    _, token = create_token(db, tenant, expires_in=timedelta(hours=1))
    clock.move(3599.999)
    try_enroll(db, token)
    clock.move(0.001)
    problem = refused(db, token)
    assert (problem.status, problem.code) == (401, "unauthorized")
    assert "expired" in str(problem.detail)
    assert list_tokens(db, tenant)[0].uses == 1


def test_a_used_up_token_is_refused(db: Database, tenant: str) -> None:
    _, token = create_token(db, tenant, max_uses=2)
    try_enroll(db, token)
    try_enroll(db, token)
    problem = refused(db, token)
    assert (problem.status, problem.code, problem.detail) == (401, "unauthorized", "the enrollment token is used up")


def test_racing_processes_never_exceed_the_maximum_uses(
    db: Database, tenant: str, in_processes: Callable[..., list[str]], tmp_path: Any
) -> None:
    _, token = create_token(db, tenant, max_uses=17)
    (tmp_path / "token").write_text(token)
    lines = "".join(in_processes(RACE, 4, db.settings.home, tmp_path / "token")).split()
    assert len(lines) == len(set(lines)) == 17
    assert {host.agent_id for host in list_hosts(db, tenant)} == set(lines)
    assert list_tokens(db, tenant)[0].uses == 17


def test_an_unknown_token_is_refused(db: Database, tenant: str) -> None:
    problem = refused(db, mint("enr"))
    assert (problem.status, problem.code) == (401, "unauthorized")
    assert problem.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("kind", ["hst", "api"])
def test_a_token_of_another_kind_does_not_enroll(db: Database, tenant: str, kind: Any) -> None:
    assert refused(db, mint(kind)).status == 401
    assert refused(db, "").status == 401


def test_an_ended_subscription_enrolls_nobody_and_spends_nothing(db: Database, tenant: str) -> None:
    _, token = create_token(db, tenant, max_uses=1)
    set_subscription(db, tenant, "ended")
    problem = refused(db, token)
    assert (problem.status, problem.code) == (403, "subscription_lapsed")
    set_subscription(db, tenant, "past_due")
    try_enroll(db, token)


def test_revoking_a_token_ends_every_credential_it_issued_and_no_other(db: Database, tenant: str) -> None:
    record, token = create_token(db, tenant)
    _, other = create_token(db, tenant)
    ended = [try_enroll(db, token) for _ in range(3)]
    kept = try_enroll(db, other)
    assert revoke_token(db, tenant, record.token_id) == 3
    authenticator = Authenticator(db)
    for enrolled in ended:
        with pytest.raises(Problem, match="revoked") as caught:
            authenticator.authenticate(enrolled.credential, "192.0.2.1")
        assert caught.value.status == 401
    assert authenticator.authenticate(kept.credential, "192.0.2.1").agent_id == kept.agent_id
    assert "revoked" in str(refused(db, token).detail)
    revoked = {host.agent_id for host in list_hosts(db, tenant) if host.revoked_at is not None}
    assert revoked == {enrolled.agent_id for enrolled in ended}


def test_revoking_one_host_ends_its_credential_and_no_other(db: Database, tenant: str, clock: Any) -> None:
    create_tenant(db, "zeta")
    _, token = create_token(db, tenant)
    gone, kept = try_enroll(db, token), try_enroll(db, token)
    authenticator = Authenticator(db)
    assert authenticator.authenticate(gone.credential, "192.0.2.1")
    for stranger in (("zeta", gone.agent_id), (tenant, "agt_nobody")):
        with pytest.raises(ValueError, match="no host"):
            revoke_host(db, *stranger)
    assert revoke_host(db, tenant, gone.agent_id)
    clock.move(60)
    assert not revoke_host(db, tenant, gone.agent_id)
    authenticator.poll()
    with pytest.raises(Problem, match="revoked") as caught:
        authenticator.authenticate(gone.credential, "192.0.2.1")
    assert caught.value.about == {"tenant": tenant, "agent_id": gone.agent_id}
    assert authenticator.authenticate(kept.credential, "192.0.2.1").agent_id == kept.agent_id
    assert try_enroll(db, token)
    revoked = {host.agent_id: host.revoked_at for host in list_hosts(db, tenant) if host.revoked_at is not None}
    assert list(revoked) == [gone.agent_id]
    acts = [record.content["act"] for record in read_chain(db, tenant)[1]]
    assert acts.count("host.revoke") == 1


def test_revoking_twice_ends_nothing_more_and_keeps_the_first_moment(db: Database, tenant: str, clock: Any) -> None:
    record, token = create_token(db, tenant)
    try_enroll(db, token)
    first = clock()
    assert revoke_token(db, tenant, record.token_id) == 1
    clock.move(60)
    assert revoke_token(db, tenant, record.token_id) == 0
    assert list_tokens(db, tenant)[0].revoked_at == first
    assert list_hosts(db, tenant)[0].revoked_at == first


def test_a_tenant_can_neither_see_nor_revoke_anothers_token(db: Database, tenant: str) -> None:
    create_tenant(db, "zeta")
    record, token = create_token(db, tenant)
    with pytest.raises(ValueError, match="no token"):
        revoke_token(db, "zeta", record.token_id)
    assert list_tokens(db, "zeta") == []
    assert try_enroll(db, token).tenant_id == tenant


@pytest.mark.parametrize(
    "limits", [{"max_uses": 0}, {"max_uses": -1}, {"expires_in": timedelta(0)}, {"expires_in": timedelta(days=-1)}]
)
def test_limits_that_nothing_could_meet_are_refused(db: Database, tenant: str, limits: Any) -> None:
    with pytest.raises(ValueError, match="want"):
        create_token(db, tenant, **limits)
    assert list_tokens(db, tenant) == []


def test_nobody_gets_a_token_for_a_tenant_that_is_not_there(db: Database) -> None:
    with pytest.raises(ValueError, match="no tenant"):
        create_token(db, "nobody")


@pytest.mark.parametrize("hostname", ["", "a\x00b", "a\nb", "\x9b31m", "a" * 1025, "\ud800"])
def test_a_host_name_that_the_wires_escaping_cannot_make_is_refused(db: Database, tenant: str, hostname: str) -> None:
    _, token = create_token(db, tenant, max_uses=1)
    with pytest.raises(Problem) as caught:
        enroll(db, token, hostname, HOST, "boot-1", "0.1.0")
    assert (caught.value.status, caught.value.code) == (400, "bad_enrollment")
    assert list_tokens(db, tenant)[0].uses == 0


def test_unknown_enrollment_tokens_are_tried_at_a_limited_rate_by_source(
    db: Database, tenant: str, seconds: Any
) -> None:
    limiter = SourceLimiter(per_second=1.0, burst=3, monotonic=seconds)
    _, token = create_token(db, tenant)
    statuses = [refused(db, mint("enr"), source="192.0.2.1", limiter=limiter).status for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert refused(db, token, source="192.0.2.1", limiter=limiter).headers == {"Retry-After": "1"}
    assert try_enroll(db, token, source="192.0.2.2", limiter=limiter)
    seconds.now += 1
    assert try_enroll(db, token, source="192.0.2.1", limiter=limiter)


def test_an_enrollment_that_fails_half_way_spends_nothing(db: Database, tenant: str) -> None:
    _, token = create_token(db, tenant, max_uses=1)
    full = {
        "sqlite": "CREATE TRIGGER away BEFORE INSERT ON host_credentials BEGIN SELECT RAISE(ABORT, 'disk full'); END",
        "postgresql": "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$; "
        "CREATE TRIGGER away BEFORE INSERT ON host_credentials EXECUTE FUNCTION away()",
    }
    with db.transaction() as session:
        session.connection().exec_driver_sql(full[db.dialect])
    problem = refused(db, token)
    assert (problem.status, problem.code) == (503, "control_plane_unavailable")
    assert "Retry-After" in problem.headers
    assert list_tokens(db, tenant)[0].uses == 0
