"""Traces: a span a batch at a collector that stands in for one, and nothing of it unless it is asked for."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.app import create_app
from ingest.settings import IngestSettings
from kaimon.base.settings import TracingSettings
from tenancy.database import open_database
from tenancy.enrollment import create_token, enroll
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Collector(ThreadingHTTPServer):
    """Takes spans as a collector does, over HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), self.make_handler())
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def make_handler(self) -> type[BaseHTTPRequestHandler]:
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def spans(self) -> list[Any]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [span for one in requests for r in one.resource_spans for s in r.scope_spans for span in s.spans]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAIMON_OTLP_ENDPOINT", made.url)
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def host(tmp_path: Path, wire: ModuleType) -> Any:
    db = open_database(TenancySettings(home=tmp_path))
    create_tenant(db, "acme", subscription="active")
    _, token = create_token(db, "acme")
    made = enroll(db, token, "host-1", {}, "22222222-2222-2222-2222-222222222222", "0.1.0")
    db.close()
    return wire.Host("acme", made.agent_id, made.credential)


def send(home: Path, host: Any, *headers: dict[str, str]) -> list[int]:
    """Send a batch with each of these headers to an ingest of this process, which then ends."""
    app: Any = create_app(IngestSettings(home=home, commit_linger_ms=0))
    statuses = []

    async def work() -> None:
        transport = httpx.ASGITransport(app=app)
        async with (
            app._app.router.lifespan_context(app._app),
            httpx.AsyncClient(transport=transport, base_url="https://localhost") as client,
        ):
            for more in headers:
                body = host.batch(2)
                answer = await client.post("/v1/batches", content=body, headers=host.headers(body) | more)
                statuses.append(answer.status_code)

    asyncio.run(work())
    return statuses


def test_a_collector_sees_a_span_a_batch_with_whose_it_was(collector: Collector, tmp_path: Path, host: Any) -> None:
    assert send(tmp_path, host, {}, {"traceparent": PARENT}, {"Content-Encoding": "gzip"}) == [200, 200, 415]
    spans = [span for span in collector.spans() if span.name == "POST /v1/batches"]
    assert len(spans) == 3
    attributes = [{item.key: item.value for item in span.attributes} for span in spans]
    assert {one["kaimon.tenant"].string_value for one in attributes} == {"acme"}
    assert [one["http.response.status_code"].int_value for one in attributes] == [200, 200, 415]
    assert [one["kaimon.count"].int_value for one in attributes if "kaimon.count" in one] == [2, 2]
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano > 1_700_000_000 * 10**9 for span in spans)
    parents = [span.parent_span_id.hex() for span in spans if span.trace_id.hex() == PARENT.split("-")[1]]
    assert parents == [PARENT.split("-")[2]]
    assert len({span.trace_id for span in spans}) == 3
    assert {span.name for span in collector.spans()} >= {"staging.put"}


def test_no_credential_and_no_path_of_an_event_is_in_a_span(collector: Collector, tmp_path: Path, host: Any) -> None:
    send(tmp_path, host, {"X-Request-Id": host.credential}, {"traceparent": host.credential})
    told = b"".join(collector.bodies)
    assert b"POST /v1/batches" in told
    assert host.credential[8:].encode() not in told
    assert b"/srv/data" not in told


def test_a_collector_that_is_away_costs_no_request(tmp_path: Path, host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAIMON_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert send(tmp_path, host, {}, {}) == [200, 200]


def test_traces_are_off_and_not_even_loaded_by_default(tmp_path: Path) -> None:
    code = """
import sys
from lake.access import access_log
from kaimon.base.access import accessing
import ingest.app
with access_log("cli"), accessing("command", "x"):
    pass
print("opentelemetry.sdk" in sys.modules)
"""
    environment = {"KAIMON_HOME": str(tmp_path)}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize(
    "url", ["http://collector.example:4318", "https://user:word@collector.example", "ftp://127.0.0.1"]
)
def test_a_collector_is_asked_by_https_or_on_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="otlp_endpoint"):
        TracingSettings(otlp_endpoint=url)
