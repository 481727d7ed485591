"""Every request leaves one record in the access log, whatever its answer; generated from the route table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import zstandard

from ingest.app import create_app
from ingest.edge import Edge
from ingest.settings import IngestSettings
from kaimon.base.access import Access, reporting_to
from lake.access_reads import read_access
from lake.settings import LakeSettings
from lake.stores import open_store
from tenancy.alarms import list_alarms
from tenancy.database import Database, open_database
from tenancy.enrollment import create_token, enroll, revoke_token
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant, set_subscription
from tenancy.tokens import mint

Ask = Callable[..., Awaitable[httpx.Response]]
ENROLLMENT = {
    "hostname": "host-1",
    "boot_id": "22222222-2222-2222-2222-222222222222",
    "agent_version": "0.1.0",
    "host": {"os": "Debian", "kernel": "6.1.0", "arch": "x86_64", "cloud": None},
}


class App:
    """The application in this process, with what it reports in `seen`; each request must leave one record."""

    def __init__(self, home: Path, wire: ModuleType) -> None:
        self.home = home
        self.wire = wire
        self.seen: list[Access] = []
        self.edge: Any = create_app(IngestSettings(home=home, commit_linger_ms=0, max_compressed_bytes=1 << 20))
        assert isinstance(self.edge, Edge)
        self.app: Any = self.edge._app

    def routes(self) -> list[tuple[str, str]]:
        """Every (method, path) that is served: the framework's and the hot ones."""
        framework = [(method, route.path) for route in self.app.routes for method in sorted(route.methods - {"HEAD"})]
        return framework + [("POST", path) for path in self.edge._hot]

    def run(self, *work: Callable[[Ask], Awaitable[None]]) -> None:
        """Run within the application's lifespan; its records come here and not into its home."""

        async def live() -> None:
            async with self.app.router.lifespan_context(self.app):
                with reporting_to(self.seen.append):
                    for one in work:
                        await one(self.ask)

        asyncio.run(live())

    async def ask(self, method: str, path: str, source: str = "127.0.0.1", **more: Any) -> httpx.Response:
        before = len(self.calls())
        transport = httpx.ASGITransport(app=self.edge, raise_app_exceptions=False, client=(source, 5))
        async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
            answer = await client.request(method, path, **more)
        new = self.calls()[before:]
        assert len(new) == 1, f"{method} {path}: {len(new)} records"
        assert (new[0].status, new[0].request_id) == (answer.status_code, answer.headers["x-request-id"])
        assert new[0].origin == source
        if answer.status_code >= 400:
            assert new[0].outcome == answer.json()["code"]
        return answer

    def calls(self) -> list[Access]:
        return [one for one in self.seen if one.kind == "call"]

    @property
    def last(self) -> Access:
        return self.calls()[-1]


@pytest.fixture
def app(tmp_path: Path, wire: ModuleType) -> App:
    return App(tmp_path, wire)


@pytest.fixture
def db(tmp_path: Path) -> Any:
    opened = open_database(TenancySettings(home=tmp_path))
    yield opened
    opened.close()


def a_host(db: Database, wire: ModuleType, tenant: str = "acme") -> Any:
    create_tenant(db, tenant, subscription="active")
    _, token = create_token(db, tenant)
    made = enroll(db, token, "host-1", {}, ENROLLMENT["boot_id"], "0.1.0")
    return wire.Host(tenant, made.agent_id, made.credential)


def test_a_batch_says_who_what_whose_from_where_and_how_much(app: App, db: Database, wire: ModuleType) -> None:
    host = a_host(db, wire)
    body = host.batch(3)

    async def work(ask: Ask) -> None:
        await ask("POST", "/v1/batches", content=body, headers=host.headers(body) | {"X-Request-Id": "abc"})

    app.run(work)
    told = app.last
    assert (told.what, told.outcome, told.status, told.tenant) == ("POST /v1/batches", "ok", 200, "acme")
    assert (told.who, told.object, told.bytes, told.count) == (host.agent_id, f"{host.load_id}/1", len(body), 3)
    assert told.request_id == "abc"
    (put,) = [one for one in app.seen if one.what == "staging.put"]
    assert (put.tenant, put.outcome) == ("acme", "ok")
    assert put.object is not None
    assert put.object.startswith("acme/")


def test_every_route_leaves_one_record_when_it_answers(app: App, db: Database, wire: ModuleType) -> None:
    host = a_host(db, wire)
    body = host.batch(1)
    _, token = create_token(db, "acme")
    good: dict[str, dict[str, Any]] = {
        "/v1/batches": {"content": body, "headers": host.headers(body)},
        "/v1/enroll": {"json": ENROLLMENT, "headers": {"Authorization": f"Bearer {token}"}},
    }
    assert {"/v1/batches", "/v1/enroll", "/healthz", "/readyz", "/metrics", "/openapi.json"} <= {
        p for _, p in app.routes()
    }

    async def work(ask: Ask) -> None:
        for method, path in app.routes():
            answer = await ask(method, path, **good.get(path, {}))
            assert answer.status_code in {200, 201}, (method, path, answer.text)
            assert (app.last.what, app.last.outcome) == (f"{method} {path}", "ok")

    app.run(work)


def bearer(kind: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {mint(kind)}"}


async def unknown_token(ask: Ask, path: str, body: dict[str, Any]) -> int:
    headers = bearer("hst" if "batches" in path else "enr")
    return (await ask("POST", path, f"192.0.2.{len(path)}", headers=headers, **body)).status_code


def test_every_route_leaves_one_record_when_it_refuses(app: App) -> None:
    async def work(ask: Ask) -> None:
        for method, path in app.routes():
            other = "PUT"
            assert (await ask(other, path)).status_code == 405
            assert app.last.what.startswith(f"{other} ")
            if method == "POST":
                assert (await ask(method, path)).status_code == 401
                assert (app.last.what, app.last.who, app.last.tenant) == (f"{method} {path}", None, None)
                body = {"json": ENROLLMENT} if "enroll" in path else {"content": b"x"}
                codes = [await unknown_token(ask, path, body) for _ in range(60)]
                assert {401, 429} == set(codes)
                large = {"Content-Type": "application/json", "Content-Length": "99999999"} | bearer("enr")
                if "enroll" in path:
                    assert (await ask(method, path, content=b"", headers=large)).status_code == 413
        for path in ("/nowhere", "/v1/batches/x", "/v1/%2e%2e/%00secret"):
            assert (await ask("GET", path)).status_code == 404
            assert app.last.what == "GET unknown"
        assert (await ask("GET", "/metrics", "192.0.2.1")).status_code == 404
        assert (await ask("BREW", "/healthz")).status_code == 405
        assert app.last.what == "OTHER /healthz"

    app.run(work)


def test_a_host_that_is_refused_is_named(app: App, db: Database, wire: ModuleType) -> None:
    host, other, ended = (a_host(db, wire, tenant) for tenant in ("acme", "globex", "initech"))
    set_subscription(db, "initech", "ended")
    record, token = create_token(db, "acme")
    gone = enroll(db, token, "host-2", {}, ENROLLMENT["boot_id"], "0.1.0")
    revoke_token(db, "acme", record.token_id)
    foreign = zstandard.compress(wire.lines(host.header(agent_id=other.agent_id)))
    cases: list[tuple[bytes, dict[str, str], int, str]] = [
        (foreign, host.headers(foreign), 403, "acme"),
        (b"x", host.headers(b"x") | {"Content-Length": "99999999"}, 413, "acme"),
        (b"x", host.headers(b"x"), 400, "acme"),
        (b"x", host.headers(b"x") | {"Content-Type": "text/plain"}, 415, "acme"),
        (b"x", ended.headers(b"x"), 403, "initech"),
        (b"x", wire.request_headers(gone.credential, b"x"), 401, "acme"),
    ]

    async def work(ask: Ask) -> None:
        for body, headers, status, tenant in cases:
            answer = await ask("POST", "/v1/batches", content=body, headers=headers)
            assert (answer.status_code, app.last.tenant) == (status, tenant), answer.text
            assert str(app.last.who).startswith("agt_")

    app.run(work)


def test_every_route_leaves_one_record_when_it_breaks(app: App) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    async def work(ask: Ask) -> None:
        with ExitStack() as undo:
            patch = undo.enter_context(pytest.MonkeyPatch.context())
            for route in app.app.routes:
                patch.setattr(route, "app", broken)
            for path in app.edge._hot:
                patch.setitem(app.edge._hot, path, broken)
            for method, path in app.routes():
                assert (await ask(method, path)).status_code == 500
                assert app.last.what == f"{method} {path}"

    app.run(work)


def test_nothing_that_a_host_says_of_its_files_or_itself_is_in_the_log(
    app: App, db: Database, wire: ModuleType
) -> None:
    host = a_host(db, wire)
    rows = host.events(2, path="/srv/customer/secret.txt", user="ada-lovelace", process="editor-x", exe="/opt/editor-x")
    body = zstandard.compress(wire.lines(host.header(hostname="host-secret"), *rows, b'{"path":"/srv/broken-secret"}'))
    _, token = create_token(db, "acme")

    async def work(ask: Ask) -> None:
        answer = await ask("POST", "/v1/batches?path=/srv/query-secret", content=body, headers=host.headers(body))
        assert answer.json()["rejected"] == 1
        await ask("GET", "/srv/url-secret")
        bearer = {"Authorization": f"Bearer {token}", "X-Request-Id": token, "User-Agent": "agent-secret"}
        await ask("POST", "/v1/enroll", json=ENROLLMENT | {"hostname": "name-secret"}, headers=bearer)

    app.run(work)
    text = "\n".join(map(repr, app.seen))
    assert "secret" not in text
    for word in ("ada-lovelace", "editor-x", host.credential):
        assert word not in text


def test_an_audit_store_that_is_dead_costs_no_batch_and_is_an_alarm(
    tmp_path: Path, db: Database, wire: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("KAIMON_AUDIT_URL", (tmp_path / "file").as_uri())
    host = a_host(db, wire)
    body = host.batch(1)
    edge: Any = create_app(IngestSettings(home=tmp_path, commit_linger_ms=0))

    async def work() -> None:
        async with edge._app.router.lifespan_context(edge._app):
            transport = httpx.ASGITransport(app=edge, client=("127.0.0.1", 5))
            async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
                answer = await client.post("/v1/batches", content=body, headers=host.headers(body))
                assert answer.status_code == 200
                waiting = (await client.get("/metrics")).text
                assert "kaimon_ingest_access_waiting 2.0" in waiting

    asyncio.run(work())
    (alarm,) = list_alarms(db)
    assert (alarm.kind, alarm.tenant_id, alarm.detail["lost"]) == ("access_lost", "-", 3)


def test_the_server_keeps_its_records_and_writes_the_last_of_them_when_it_stops(
    tmp_path: Path, wire: ModuleType
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    server = wire.Server(home, tmp_path / "log", access_flush_s=3600, workers=2)
    try:
        database = open_database(TenancySettings(home=home))
        create_tenant(database, "acme", subscription="active")
        host = server.enroll(database, "acme")
        database.close()
        token = host.credential
        sent = [f"batch-{number}" for number in range(5)]
        for name in sent:
            assert server.send(host, host.batch(), **{"X-Request-Id": name}).status_code == 200
        server.client.get("/healthz", headers={"X-Request-Id": token})
        metrics = server.client.get("/metrics").text
        assert "kaimon_ingest_access_lost 0.0" in metrics
    finally:
        assert server.stop() == 0
    store = open_store("audit", LakeSettings(home=home))
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    found = list(read_access(store, now - timedelta(days=1), now + timedelta(days=1)))
    batches = [one for one in found if one.what == "POST /v1/batches"]
    assert sorted(str(one.request_id) for one in batches) == sent
    assert {one.who for one in batches} == {host.agent_id}
    assert {one.what for one in found if one.kind == "storage" and one.tenant == "acme"} == {"staging.put"}
    assert len([one for one in found if one.what == "POST /v1/enroll"]) == 1
    assert token not in json.dumps([repr(one) for one in found])
    assert "[redacted]" in repr(found)
