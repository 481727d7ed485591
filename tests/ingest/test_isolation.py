"""Two tenants, every route, every id of the other: 404, 401, 403, or an answer that has nothing of the other in it.

The routes are the application's own, so that a new one fails here until somebody has thought of its row.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import zstandard

from ingest.app import create_app
from ingest.settings import IngestSettings
from lake.reads import scan
from lake.settings import LakeSettings
from pipelines.landing import land_tenant
from tenancy.database import Database
from tenancy.enrollment import create_token
from tenancy.tenants import create_tenant

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def routes() -> list[tuple[str, str]]:
    """Return every (method, path) that the application serves: the framework's and those that go past it."""
    edge: Any = create_app(IngestSettings(home=Path("nowhere")))
    found = [(method, route.path) for route in edge._app.routes for method in route.methods if method != "HEAD"]
    return sorted(found + [("POST", path) for path in edge._hot])


@dataclass(frozen=True)
class Party:
    """A tenant with a host that has sent a batch, and all that it is known by."""

    host: Any
    token_id: str
    token: str
    body: bytes
    node: str

    def ids(self) -> dict[str, str]:
        host = self.host
        return {
            "tenant": host.tenant,
            "agent": host.agent_id,
            "load": host.load_id,
            "boot": host.boot_id,
            "token": self.token_id,
            "node": self.node,
            "segment": f"{host.tenant}/{self.node}/000000000001.parquet",
        }


@pytest.fixture(scope="module")
def parties(server: Any, database: Database, wire: ModuleType) -> tuple[Party, Party]:
    def make(tenant: str) -> Party:
        create_tenant(database, tenant, subscription="active")
        made, token = create_token(database, tenant)
        host = server.enroll_with(token)
        body = host.batch(2)
        assert server.send(host, body).status_code == 200
        (segment,) = wire.segments(server.home, tenant)
        return Party(host, made.token_id, token, body, segment.node)

    return make("ours"), make("theirs")


@pytest.fixture
def ours(parties: tuple[Party, Party]) -> Party:
    return parties[0]


@pytest.fixture
def theirs(parties: tuple[Party, Party]) -> Party:
    return parties[1]


@pytest.fixture(autouse=True)
def _theirs_is_left_alone(server: Any, theirs: Party, wire: ModuleType) -> Any:
    """Hold that nothing which one tenant does is found with the other."""
    before = wire.staged_batches(server.home, theirs.host.tenant)
    yield
    assert wire.staged_batches(server.home, theirs.host.tenant) == before


def names_nothing_of(theirs: Party, answer: httpx.Response) -> None:
    said = answer.text + json.dumps(dict(answer.headers))
    for kind, name in theirs.ids().items():
        if kind not in {"tenant", "node"}:
            assert name not in said
    assert theirs.host.credential not in said
    assert theirs.token not in said


def batches(server: Any, ours: Party, theirs: Party, wire: ModuleType) -> None:
    host, other = ours.host, theirs.host

    def send(**changes: Any) -> httpx.Response:
        body = zstandard.compress(wire.lines(host.header(**changes), *host.events(1)))
        answer: httpx.Response = server.send(host, body)
        names_nothing_of(theirs, answer)
        return answer

    assert (send(agent_id=other.agent_id).status_code, send(agent_id=other.agent_id).json()["code"]) == (
        403,
        "agent_mismatch",
    )
    # What is theirs already is no duplicate to us, and no business of ours.
    assert server.send(host, theirs.body).status_code == 403
    for name in theirs.ids().values():
        answer = server.client.post(
            "/v1/batches", content=b"", headers=host.headers(b"") | {"Authorization": f"Bearer {name}"}
        )
        assert answer.status_code == 401
        names_nothing_of(theirs, answer)
    assert (
        server.client.post("/v1/batches", content=b"", headers=wire.request_headers(theirs.token, b"")).status_code
        == 401
    )
    # Whatever else of theirs we claim stays ours.
    taken = [send(load_id=other.load_id, boot_id=other.boot_id, batch_seq=1).json(), send(hostname=other.tenant).json()]
    assert [answer["duplicate"] for answer in taken] == [False, False]
    for place in (
        {"params": {"tenant": other.tenant}},
        {"headers": {"X-Tenant": other.tenant, "Tenant": other.tenant}},
    ):
        body = host.batch(1)
        headers = host.headers(body) | place.get("headers", {})
        answer = server.client.post("/v1/batches", content=body, headers=headers, params=place.get("params"))
        assert answer.status_code == 200
    staged = wire.staged_batches(server.home, host.tenant)
    assert (host.agent_id, other.load_id, 1) in staged
    assert {agent for agent, _, _ in staged} == {host.agent_id}


def enroll(server: Any, ours: Party, theirs: Party, wire: ModuleType) -> None:
    wish = {
        "hostname": "host-1",
        "boot_id": str(uuid.uuid4()),
        "agent_version": "0.1.0",
        "host": {"os": "Debian", "kernel": "6.1.0", "arch": "x86_64", "cloud": None},
    }

    def ask(bearer: str, /, **changes: Any) -> httpx.Response:
        answer: httpx.Response = server.client.post(
            "/v1/enroll", json=wish | changes, headers={"Authorization": f"Bearer {bearer}"}
        )
        names_nothing_of(theirs, answer)
        return answer

    for name in [*theirs.ids().values(), theirs.host.credential, ours.host.credential]:
        assert ask(name).status_code == 401
    for key, name in theirs.ids().items():
        for field in (key, f"{key}_id"):
            if field not in wish:
                assert ask(ours.token, **{field: name}).status_code == 400
    claimed = ask(ours.token, boot_id=theirs.host.boot_id, hostname=theirs.host.tenant)
    assert (claimed.status_code, claimed.json()["tenant"]) == (201, ours.host.tenant)
    assert claimed.json()["agent_id"] != theirs.host.agent_id


def tells_nothing(path: str) -> Callable[[Any, Party, Party, ModuleType], None]:
    """Return a row for a route that is the same for everybody: no id gets anything of a tenant out of it."""

    def row(server: Any, ours: Party, theirs: Party, wire: ModuleType) -> None:
        ways: list[dict[str, Any]] = [{}, {"headers": ours.host.headers(b"")}]
        ways += [{"params": {key: name}} for key, name in theirs.ids().items()]
        for way in ways:
            answer = server.client.get(path, **way)
            assert answer.status_code == 200
            names_nothing_of(theirs, answer)
            if path != "/metrics":
                # Metrics name tenants, to `KAIMON_METRICS_FROM` alone.
                assert f'"{theirs.host.tenant}"' not in answer.text

    return row


ROWS: dict[tuple[str, str], Callable[[Any, Party, Party, ModuleType], None]] = {
    ("POST", "/v1/batches"): batches,
    ("POST", "/v1/enroll"): enroll,
    **{("GET", path): tells_nothing(path) for path in ("/healthz", "/readyz", "/metrics", "/openapi.json")},
}


def test_every_route_has_its_row() -> None:
    assert routes() == sorted(ROWS)


@pytest.mark.parametrize("route", routes(), ids=" ".join)
def test_no_id_of_the_other_opens_anything(
    server: Any, ours: Party, theirs: Party, wire: ModuleType, route: tuple[str, str]
) -> None:
    ROWS[route](server, ours, theirs, wire)


@pytest.mark.parametrize("path", sorted({path for _, path in routes()}))
def test_there_is_nothing_below_above_or_beside_a_route(server: Any, ours: Party, theirs: Party, path: str) -> None:
    headers = {"Authorization": f"Bearer {ours.host.credential}"}
    served = {method for method, served in routes() if served == path}
    for method in METHODS:
        for name in theirs.ids().values():
            for place in (f"{path}/{name}", f"/{name}{path}", f"{path}/../{name}"):
                answer = server.client.request(method, place, headers=headers)
                assert answer.status_code == 404, (method, place)
                if method != "HEAD":
                    names_nothing_of(theirs, answer)
        if method not in served and not (method == "HEAD" and "GET" in served):
            assert server.client.request(method, path, headers=headers).status_code == 405


def test_a_changed_hostname_shows_and_changes_nothing(
    server: Any, database: Database, new_host: Callable[[], Any], theirs: Party, wire: ModuleType
) -> None:
    host = new_host()
    body = zstandard.compress(wire.lines(host.header(hostname="renamed"), *host.events(2)))
    assert server.send(host, body).status_code == 200
    settings = LakeSettings(home=server.home)
    land_tenant(database, host.tenant, "test", settings)
    for table in ("batches", "hosts"):
        rows = scan(host.tenant, table, settings=settings).collect()
        assert rows.select("hostname", "claimed_hostname").rows() == [("host-1", "renamed")], table
    assert set(scan(host.tenant, "events", settings=settings).collect()["hostname"]) == {"host-1"}
