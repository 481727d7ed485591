"""Limits of tokens against two real workers, on SQLite and on PostgreSQL: expiry, uses, last use, races."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from kaimon.base.clock import utc_now
from tenancy.database import Database, open_database
from tenancy.enrollment import create_token, list_tokens, revoke_token
from tenancy.hosts import list_hosts
from tenancy.settings import TenancySettings
from tenancy.tables import HOST_CREDENTIALS
from tenancy.tenants import create_tenant, set_subscription

THREADS = 25


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wire: Any) -> Iterator[Any]:
    """Two workers that share a port and a database."""
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "home").mkdir()
    options: dict[str, Any] = {"workers": 2, "last_used_every_s": 0.2}
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres")
        options["database_url"] = postgres.url(postgres.create())
    made = wire.Server(folder / "home", folder / "log", **options)
    made.database_url = options.get("database_url")
    yield made
    made.kill()


@pytest.fixture
def db(workers: Any) -> Iterator[Database]:
    url = {} if workers.database_url is None else {"database_url": workers.database_url}
    opened = open_database(TenancySettings(home=workers.home, **url))
    yield opened
    opened.close()


@pytest.fixture
def tenant(db: Database) -> str:
    return create_tenant(db, f"t-{uuid.uuid4().hex[:12]}", subscription="active").tenant_id


@pytest.fixture
def enroll(workers: Any) -> Iterator[Callable[[str], httpx.Response]]:
    """Enroll over connections that both workers hold; safe to use in threads."""
    limits = httpx.Limits(max_connections=THREADS, max_keepalive_connections=THREADS)
    client = httpx.Client(base_url=workers.url, verify=workers.trust, timeout=120, trust_env=False, limits=limits)

    def ask(token: str) -> httpx.Response:
        wish = {
            "hostname": "host-1",
            "boot_id": str(uuid.uuid4()),
            "agent_version": "0.1.0",
            "host": {"os": "Debian", "kernel": "6.1.0", "arch": "x86_64", "cloud": None},
        }
        return client.post("/v1/enroll", json=wish, headers={"Authorization": f"Bearer {token}"})

    yield ask
    client.close()


def at_once(enroll: Callable[[str], httpx.Response], tokens: list[str]) -> list[httpx.Response]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(enroll, tokens))


def told(answers: list[httpx.Response]) -> Counter[tuple[int, str]]:
    return Counter((answer.status_code, answer.json().get("detail", "")) for answer in answers)


def test_a_hundred_enrollments_at_once_with_a_token_of_ten_uses_make_ten_hosts(
    db: Database, tenant: str, enroll: Callable[[str], httpx.Response]
) -> None:
    _, token = create_token(db, tenant, max_uses=10)
    answers = at_once(enroll, [token] * 100)
    assert told(answers) == {(201, ""): 10, (401, "the enrollment token is used up"): 90}
    enrolled = {answer.json()["agent_id"] for answer in answers if answer.status_code == 201}
    assert {host.agent_id for host in list_hosts(db, tenant)} == enrolled
    assert len(enrolled) == list_tokens(db, tenant)[0].uses == 10


def test_a_hundred_enrollments_at_once_with_four_tokens_never_pass_the_tenants_hosts(
    db: Database, tenant: str, enroll: Callable[[str], httpx.Response]
) -> None:
    set_subscription(db, tenant, max_hosts=7)
    tokens = [create_token(db, tenant)[1] for _ in range(4)]
    answers = at_once(enroll, tokens * 25)
    assert told(answers) == {(201, ""): 7, (403, "the subscription allows 7 hosts"): 93}
    assert len(list_hosts(db, tenant)) == sum(token.uses for token in list_tokens(db, tenant)) == 7


def test_a_token_that_is_revoked_amid_enrollments_leaves_no_credential_that_works(
    db: Database, tenant: str, enroll: Callable[[str], httpx.Response], workers: Any, wire: Any
) -> None:
    record, token = create_token(db, tenant)
    with ThreadPoolExecutor(THREADS) as pool:
        asked = [pool.submit(enroll, token) for _ in range(60)]
        wire.wait_until(lambda: any(one.done() for one in asked), "the first to be enrolled", 60)
        ended = revoke_token(db, tenant, record.token_id)
    answers = [one.result() for one in asked]
    assert set(told(answers)) <= {(201, ""), (401, "the enrollment token is revoked")}
    given = [answer.json() for answer in answers if answer.status_code == 201]
    assert len(given) == ended == list_tokens(db, tenant)[0].uses > 0
    assert all(host.revoked_at is not None for host in list_hosts(db, tenant))
    for one in given:
        host = wire.Host(tenant, one["agent_id"], one["credential"])
        assert workers.send(host, host.batch()).status_code == 401


def test_a_token_enrolls_until_its_moment_and_never_after(
    db: Database, tenant: str, enroll: Callable[[str], httpx.Response]
) -> None:
    record, token = create_token(db, tenant, expires_in=timedelta(seconds=3))
    assert record.expires_at is not None
    while True:
        before, answer, after = utc_now(), enroll(token), utc_now()
        # What is decided in between may be either.
        if answer.status_code == 401:
            assert after >= record.expires_at
            break
        assert answer.status_code == 201
        assert before < record.expires_at
    assert answer.json()["detail"] == "the enrollment token has expired"
    hosts = list_hosts(db, tenant)
    assert all(host.enrolled_at < record.expires_at for host in hosts)
    assert list_tokens(db, tenant)[0].uses == len(hosts)


def test_when_tokens_and_credentials_were_used_last_is_known(
    db: Database, tenant: str, workers: Any, wire: Any
) -> None:
    began = utc_now()
    record, token = create_token(db, tenant)
    assert list_tokens(db, tenant)[0].last_used_at is None
    host = workers.enroll_with(token)
    used = list_tokens(db, tenant)[0].last_used_at
    assert used is not None
    assert began <= used <= utc_now()

    def uses() -> Any:
        columns = (HOST_CREDENTIALS.c.first_used_at, HOST_CREDENTIALS.c.last_used_at)
        with db.reading() as session:
            return session.execute(select(*columns).where(HOST_CREDENTIALS.c.agent_id == host.agent_id)).one()

    assert tuple(uses()) == (None, None)
    assert workers.send(host, host.batch()).status_code == 200
    wire.wait_until(lambda: uses().last_used_at is not None, "its first use to be noted")
    first = uses()
    assert began <= first.first_used_at <= first.last_used_at <= utc_now()

    def later() -> bool:
        assert workers.send(host, host.batch()).status_code == 200
        return uses().last_used_at > first.last_used_at

    wire.wait_until(later, "a later use to be noted")
    assert uses().first_used_at == first.first_used_at
    # Who is refused uses nothing.
    revoke_token(db, tenant, record.token_id)
    wire.wait_until(lambda: workers.send(host, host.batch()).status_code == 401, "the revocation")
