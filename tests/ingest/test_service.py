"""The server as a whole: health, its document, its logs, overload, and how it starts and stops."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import ssl
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from ingest.events import LINE_COLUMNS
from kaimon.base.redact import TOKEN_PATTERN
from kaimon.cli.ingest import app as command_line
from tenancy.database import open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant


def test_health_and_readiness(server: Any) -> None:
    assert server.client.get("/healthz").json() == {"status": "alive"}
    assert server.client.get("/readyz").json()["status"] == "ready"


def test_metrics_count_by_tenant_and_name_no_host(server: Any, host: Any) -> None:
    def counted(name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", server.client.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    names = ["kaimon_ingest_events_total", 'kaimon_ingest_batches_total{duplicate="false"}']
    before = [counted(name) for name in names]
    server.send(host, host.batch(7))
    assert [counted(name) - was for name, was in zip(names, before, strict=True)] == [7, 1]
    body = host.batch(1)
    server.send(host, body, **{"Content-Encoding": "gzip"})
    of_tenant = f'tenant="{host.tenant}"'
    assert counted(f"kaimon_ingest_tenant_events_total{{{of_tenant}}}") == 7
    assert counted(f'kaimon_ingest_tenant_refusals_total{{code="unsupported_media_type",{of_tenant}}}') == 1
    assert counted("kaimon_ingest_late_seconds_count") >= 1
    text = server.client.get("/metrics").text
    assert host.agent_id not in text
    assert "host-1" not in text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nowhere", 404, "not_found"), ("GET", "/v1/batches", 405, "method_not_allowed")],
)
def test_what_is_not_there_is_a_problem_too(server: Any, method: str, path: str, status: int, code: str) -> None:
    answer = server.client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_request_id_is_kept_if_it_is_one(server: Any) -> None:
    given = server.client.get("/healthz", headers={"X-Request-Id": "abc-1.2_3"})
    assert given.headers["x-request-id"] == "abc-1.2_3"
    for odd in ("a b", "x" * 65, 'a"b'):
        made = server.client.get("/healthz", headers={"X-Request-Id": odd}).headers["x-request-id"]
        assert re.fullmatch(r"req_[0-9a-f]{16}", made)


def test_the_document_describes_every_route_and_the_events_columns(server: Any) -> None:
    document = server.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {"/v1/batches", "/v1/enroll", "/healthz", "/readyz", "/metrics"}
    schemas = document["components"]["schemas"]
    assert list(schemas["Event"]["properties"]) == [column.name for column in LINE_COLUMNS]
    assert schemas["Event"]["properties"]["count"]["minimum"] == 1
    assert set(schemas["Lost"]["required"]) == {"ring", "scratch", "shed", "refused", "evicted"}
    references = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))
    assert set(references) <= set(schemas)


def test_each_request_leaves_one_json_line_and_no_secret(server: Any, host: Any, wire: ModuleType) -> None:
    body = host.batch(4)
    identity = server.send(host, body).headers["x-request-id"]
    server.client.get(f"/{host.credential}?token={host.credential}", headers={"X-Request-Id": host.credential})
    server.client.get("/healthz", headers={"X-Request-Id": "last-one"})

    def logged() -> bool:
        return any(line.get("request_id") == "last-one" for line in server.log_lines())

    wire.wait_until(logged, "the log")
    (line,) = [line for line in server.log_lines() if line.get("request_id") == identity]
    assert (line["event"], line["route"], line["status"], line["method"]) == ("request", "/v1/batches", 200, "POST")
    assert (line["tenant"], line["agent_id"], line["rows"]) == (host.tenant, host.agent_id, 4)
    text = server.log.read_text()
    assert not TOKEN_PATTERN.search(text)
    assert host.credential[8:] not in text
    assert "/srv/data" not in text


@pytest.fixture
def small(tmp_path: Path, wire: ModuleType) -> Any:
    """A server with little memory and a long linger."""
    (tmp_path / "home").mkdir()
    made = wire.Server(
        tmp_path / "home",
        tmp_path / "log",
        commit_linger_ms=1500,
        max_compressed_bytes=65_536,
        max_decompressed_bytes=262_144,
        max_lines=100,
        admission_bytes=650_000,
        body_timeout_s=2,
    )
    yield made
    made.kill()


def test_bodies_are_let_in_by_their_size_before_they_are_read(small: Any, wire: ModuleType) -> None:
    database = open_database(TenancySettings(home=small.home))
    create_tenant(database, "acme")
    host = small.enroll(database, "acme")
    database.close()
    context = ssl.create_default_context(cafile=str(small.home / "tls" / "ca.pem"))
    head = "".join(f"{name}: {value}\r\n" for name, value in host.headers(b"").items())
    request = f"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: 65536\r\n\r\n".encode()
    with contextlib.ExitStack() as open_ones:
        slow = [
            open_ones.enter_context(
                context.wrap_socket(socket.create_connection(("127.0.0.1", small.port)), server_hostname="localhost")
            )
            for _ in range(9)
        ]
        for connection in slow:
            connection.sendall(request)

        def held() -> bool:
            return "kaimon_ingest_admitted_bytes 589824.0" in small.client.get("/metrics").text

        wire.wait_until(held, "the slow bodies to be let in")
        large = small.client.post("/v1/batches", content=b"x" * 65_000, headers=host.headers(b"x"))
        assert (large.status_code, large.json()["code"], large.headers["retry-after"]) == (503, "overloaded", "1")
        # They are not waited for for ever, and then there is room again.
        for connection in slow:
            answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b'"body_timeout"' in answer
    assert small.send(host, host.batch()).status_code == 200


def test_a_server_that_is_stopped_answers_those_who_wait(small: Any, wire: ModuleType) -> None:
    database = open_database(TenancySettings(home=small.home))
    create_tenant(database, "acme")
    host = small.enroll(database, "acme")
    database.close()
    bodies = [host.batch(10) for _ in range(5)]
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda body=body: answers.append(small.send(host, body).status_code)) for body in bodies
    ]
    for thread in threads:
        thread.start()
    wire.wait_until(lambda: "kaimon_ingest_waiting_batches 5.0" in small.client.get("/metrics").text, "all to wait")
    small.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert small.process.wait(timeout=30) == 0
    assert answers == [200] * 5
    assert len(wire.staged_batches(small.home, "acme")) == 5
    assert any(line["event"] == "ingest_stopped" for line in small.log_lines())


def test_the_worker_ends_with_the_one_that_started_it(small: Any, wire: ModuleType) -> None:
    small.process.kill()
    small.process.wait()

    def closed() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", small.port)) != 0

    wire.wait_until(closed, "the port to be closed")


def test_the_command_line_makes_certificates_and_says_where(tmp_path: Path) -> None:
    answer = CliRunner().invoke(command_line, ["certificates"], env={"KAIMON_HOME": str(tmp_path)})
    assert answer.exit_code == 0
    assert Path(answer.stdout.strip()).read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")
