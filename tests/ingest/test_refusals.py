"""Each refusal that docs/ingest.md lists, hit over HTTP: the status, the code, and when to come back, as it says."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pyarrow as pa
import pytest
import zstandard

from ingest.arrow import HEADER_KEY
from lake.schema import EVENT_LINE
from tenancy.database import Database, open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

DOCUMENT = Path(__file__).parents[2] / "docs" / "ingest.md"
COMPRESSED, DECOMPRESSED, HEADER, LINE, LINES = 65_536, 262_144, 8_192, 4_096, 100
SHARE, TOTAL = 2 * COMPRESSED, 650_000
NEAR, FAR = "127.0.0.2", "127.0.0.1"


def documented() -> dict[str, tuple[int, str, bool]]:
    """Return the table of refusals: status, code, and whether it says when to come back, by what is refused."""
    text = DOCUMENT.read_text().partition("## What is refused")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (\d+) \| `(\w+)` \| (yes|no) \|$", text, re.MULTILINE)
    return {what: (int(status), code, after == "yes") for what, status, code, after in rows}


class Limited:
    """A server whose limits are soon reached, and as many hosts as one likes."""

    def __init__(self, server: Any, database: Database, wire: ModuleType) -> None:
        self.server = server
        self.wire = wire
        self._database = database
        self._tenants = 0
        self.host = self.new_host()
        trust = ssl.create_default_context(cafile=str(server.home / "tls" / "ca.pem"))
        self._near = httpx.Client(
            transport=httpx.HTTPTransport(verify=trust, local_address=NEAR), base_url=server.url, timeout=60
        )

    def new_host(self) -> Any:
        """Return a host of a tenant of its own."""
        self._tenants += 1
        create_tenant(self._database, f"tenant-{self._tenants}", subscription="active")
        return self.server.enroll(self._database, f"tenant-{self._tenants}")

    def body(self, *lines: Any, **changes: Any) -> bytes:
        """Return a body with a good header but for its changes, and these lines."""
        return zstandard.compress(self.wire.lines(self.host.header(**changes), *lines))

    def send(self, body: Any, **headers: str | None) -> httpx.Response:
        """Send a body as it is; a header that is None is left out."""
        given = self.host.headers(body if isinstance(body, bytes) else b"") | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        given = {name: value for name, value in given.items() if value is not None}
        answer: httpx.Response = self.server.client.post("/v1/batches", content=body, headers=given)
        return answer

    def metrics(self) -> httpx.Response:
        return self._near.get("/metrics")

    def close(self) -> None:
        self._near.close()

    @contextlib.contextmanager
    def held(self, hosts: list[Any]) -> Iterator[list[ssl.SSLSocket]]:
        """Let each host announce the largest body and send nothing of it."""
        context = ssl.create_default_context(cafile=str(self.server.home / "tls" / "ca.pem"))
        with contextlib.ExitStack() as stack:
            slow = []
            for host in hosts:
                plain = socket.create_connection(("127.0.0.1", self.server.port), timeout=60)
                slow.append(stack.enter_context(context.wrap_socket(plain, server_hostname="localhost")))
                head = "".join(f"{name}: {value}\r\n" for name, value in host.headers(b"").items())
                length = f"Content-Length: {COMPRESSED}\r\n\r\n"
                slow[-1].sendall(f"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\n{head}{length}".encode())
            wanted = f"kaimon_ingest_admitted_bytes {float(COMPRESSED * len(hosts))}\n"
            self.wire.wait_until(lambda: wanted in self.metrics().text, "all to be let in", 5)
            yield slow
        self.wire.wait_until(lambda: "kaimon_ingest_admitted_bytes 0.0\n" in self.metrics().text, "all to be let go")


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, wire: ModuleType) -> Iterator[Limited]:
    folder = tmp_path_factory.mktemp("limits")
    (folder / "home").mkdir()
    server = wire.Server(
        folder / "home",
        folder / "log",
        commit_linger_ms=20,
        max_compressed_bytes=COMPRESSED,
        max_decompressed_bytes=DECOMPRESSED,
        max_header_bytes=HEADER,
        max_line_bytes=LINE,
        max_lines=LINES,
        admission_bytes=TOTAL,
        tenant_admission_bytes=SHARE,
        body_timeout_s=6,
        metrics_from=f'["{NEAR}/32"]',
    )
    database = open_database(TenancySettings(home=server.home))
    made = Limited(server, database, wire)
    yield made
    made.close()
    database.close()
    server.kill()


def undeclared(data: bytes) -> bytes:
    """Compress into a frame that does not say its content's size."""
    parameters = zstandard.ZstdCompressionParameters(window_log=17, write_content_size=False)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def no_credential(limited: Limited) -> Iterator[httpx.Response]:
    body = limited.body()
    for given in (None, "", "Bearer", "Basic abc", "Bearer kmn_hst_nothing", f"Bearer kmn_hst_{'0' * 38}"):
        yield limited.send(body, Authorization=given)


def no_digest(limited: Limited) -> Iterator[httpx.Response]:
    body = limited.body()
    for given in (None, "", "sha-256=abc", "sha-256=:AAAA:", f"md5=:{'A' * 43}=:"):
        yield limited.send(body, Content_Digest=given)


def another_digest(limited: Limited) -> Iterator[httpx.Response]:
    digest = limited.host.headers(b"another")["Content-Digest"]
    yield limited.send(limited.body(), Content_Digest=digest)


def another_type(limited: Limited) -> Iterator[httpx.Response]:
    body = limited.body()
    for given in (None, "application/json", "text/plain; a=application/x-ndjson", "x"):
        yield limited.send(body, Content_Type=given)


def another_encoding(limited: Limited) -> Iterator[httpx.Response]:
    body = limited.body()
    for given in (None, "gzip", "zstd, zstd", "identity"):
        yield limited.send(body, Content_Encoding=given)


def no_frame(limited: Limited) -> Iterator[httpx.Response]:
    body = limited.body(*limited.host.events(3))
    for broken in (b"", b"not zstd", body[:-1], body[: len(body) // 2], b"\x1f\x8b\x08" + body):
        yield limited.send(broken)


def second_frame(limited: Limited) -> Iterator[httpx.Response]:
    body = limited.body(*limited.host.events(3))
    lines = zstandard.decompress(body)
    for first in (body, undeclared(lines)):
        for more in (body, b"x", b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"):
            yield limited.send(first + more)


def no_lines(limited: Limited) -> Iterator[httpx.Response]:
    yield limited.send(zstandard.compress(b""))
    yield limited.send(zstandard.compress(zstandard.decompress(limited.body())[:-1]))
    yield limited.send(limited.body(), Content_Type="application/vnd.apache.arrow.stream")


def bad_header(limited: Limited) -> Iterator[httpx.Response]:
    host, lines = limited.host, limited.wire.lines
    good = host.header()
    for changes in (
        {"kind": "bunch"},
        {"batch_seq": 0},
        {"final": 0},
        {"more": 1},
        {"hostname": "a\u0000"},
        {"cpus": []},
    ):
        yield limited.send(limited.body(**changes))
    for name in good:
        if name != "previous_digest":
            yield limited.send(zstandard.compress(lines({key: good[key] for key in good if key != name})))
    twice = lines(good).replace(b'{"kind":"batch"', b'{"kind":"batch","kind":"batch"')
    for line in (twice, b"\n", b"[]\n", b"null\n", b'{"kind":\n', b"\xff\n"):
        yield limited.send(zstandard.compress(line))


def long_header(limited: Limited) -> Iterator[httpx.Response]:
    counters = limited.host.header()["cpus"][0]
    many = [counters | {"cpu": number} for number in range(HEADER // 100)]
    yield limited.send(limited.body(cpus=many))


def deep_header(limited: Limited) -> Iterator[httpx.Response]:
    for name in ("host", "more"):
        line = limited.wire.lines(limited.host.header(host={}, more={}))
        deep = b"[" * 3_000 + b"]" * 3_000
        yield limited.send(zstandard.compress(line.replace(f'"{name}":{{}}'.encode(), f'"{name}":'.encode() + deep)))


def another_agent(limited: Limited) -> Iterator[httpx.Response]:
    yield limited.send(limited.body(agent_id=limited.new_host().agent_id))
    yield limited.send(limited.body(agent_id="agt_0000000000000000"))


def too_much_sent(limited: Limited) -> Iterator[httpx.Response]:
    yield limited.send(b"x" * (COMPRESSED + 1))


def too_much_sent_unannounced(limited: Limited) -> Iterator[httpx.Response]:
    yield limited.send(iter([b"x" * COMPRESSED, b"x"]))


def too_much_declared(limited: Limited) -> Iterator[httpx.Response]:
    yield limited.send(zstandard.compress(b"\n" * (DECOMPRESSED + 1)))


def bomb(limited: Limited) -> Iterator[httpx.Response]:
    body = undeclared(b"\0" * (300 << 20))
    assert len(body) < COMPRESSED
    yield limited.send(body)


def too_many_lines(limited: Limited) -> Iterator[httpx.Response]:
    yield limited.send(limited.body(*[b"{}"] * (LINES + 1)))
    rows = pa.Table.from_pylist(limited.host.events(LINES + 1), schema=EVENT_LINE)
    header = limited.wire.lines(limited.host.header())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, EVENT_LINE.with_metadata({HEADER_KEY: header})) as stream:
        stream.write_table(rows)
    body = zstandard.compress(sink.getvalue().to_pybytes())
    yield limited.send(body, Content_Type="application/vnd.apache.arrow.stream")


def busy_tenant(limited: Limited) -> Iterator[httpx.Response]:
    neighbour = limited.new_host()
    with limited.held([limited.host, limited.host]):
        yield limited.send(b"x")
        # The others are let in.
        body = neighbour.batch()
        assert limited.server.send(neighbour, body).status_code == 200


def no_memory(limited: Limited) -> Iterator[httpx.Response]:
    hosts = [limited.new_host() for _ in range(5)]
    with limited.held([host for host in hosts for _ in range(2)][: TOTAL // COMPRESSED]):
        yield limited.send(b"x" * (COMPRESSED - 1))


def slow_body(limited: Limited) -> Iterator[httpx.Response]:
    with limited.held([limited.host]) as (connection,):
        said = b""
        while b"\r\n\r\n" not in said or b"}" not in said:
            piece = connection.recv(4096)
            assert piece, said
            said += piece
    head, _, body = said.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    yield httpx.Response(int(first.split()[1]), headers=[tuple(line.split(": ", 1)) for line in lines], content=body)  # type: ignore[misc]


def metrics_from_elsewhere(limited: Limited) -> Iterator[httpx.Response]:
    assert limited.metrics().status_code == 200
    for given in ({}, {"X-Forwarded-For": NEAR}, {"Forwarded": f"for={NEAR}"}):
        yield limited.server.client.get("/metrics", headers=given)


CASES: dict[str, Callable[[Limited], Iterator[httpx.Response]]] = {
    "no credential, or one that nobody has": no_credential,
    "no `Content-Digest` with a SHA-256": no_digest,
    "a body that is not the digest's": another_digest,
    "another `Content-Type`": another_type,
    "another `Content-Encoding`": another_encoding,
    "not a whole zstd frame": no_frame,
    "a second frame, or anything after the first": second_frame,
    "a frame that holds no lines that end, and no Arrow stream": no_lines,
    "a header with a field that is missing, unknown, there twice, or not of its kind": bad_header,
    "a header over `KAIMON_MAX_HEADER_BYTES`": long_header,
    "a header that is nested deep": deep_header,
    "a header that names another agent": another_agent,
    "a body over `KAIMON_MAX_COMPRESSED_BYTES`": too_much_sent,
    "the same, its length not announced": too_much_sent_unannounced,
    "a frame that says it holds over `KAIMON_MAX_DECOMPRESSED_BYTES`": too_much_declared,
    "a frame that does not say, and holds more": bomb,
    "more than `KAIMON_MAX_LINES` lines or rows": too_many_lines,
    "more at once from a tenant than `KAIMON_TENANT_ADMISSION_BYTES`": busy_tenant,
    "more at once than `KAIMON_ADMISSION_BYTES`": no_memory,
    "a body that takes longer than `KAIMON_BODY_TIMEOUT_S`": slow_body,
    "`/metrics` from outside of `KAIMON_METRICS_FROM`": metrics_from_elsewhere,
}


def test_every_refusal_that_is_documented_is_tried() -> None:
    assert list(documented()) == list(CASES)


@pytest.mark.parametrize("what", CASES)
def test_each_limit_is_answered_as_documented(limited: Limited, what: str) -> None:
    answers = list(CASES[what](limited))
    for answer in answers:
        found = (answer.status_code, answer.json()["code"], "retry-after" in answer.headers)
        assert found == documented()[what], answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    # It was not the batch's fault that was there before, and memory was given back.
    assert limited.send(limited.body(*limited.host.events(2))).json()["accepted"] == 2
    assert "kaimon_ingest_admitted_bytes 0.0\n" in limited.metrics().text


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"x" * (LINE + 1), "line_too_long"),
        (b"[" * 2_000 + b"]" * 2_000, "bad_value"),
        (b'{"path":' + b"[" * 1_500 + b"]" * 1_500 + b"}", "bad_value"),
        (b'{"path":' * 400 + b"1" + b"}" * 400, "bad_value"),
        (b"{" * 4_000, "malformed_line"),
    ],
)
def test_a_line_that_is_too_long_or_nested_deep_is_rejected_alone(limited: Limited, line: bytes, code: str) -> None:
    events = limited.host.events(2)
    told = limited.send(limited.body(events[0], line, events[1])).json()
    assert (told["accepted"], told["rejected"]) == (2, 1)
    assert [(fault["line"], fault["code"]) for fault in told["errors"]] == [(3, code)]


def test_a_number_that_comes_again_with_another_body_is_counted_and_both_are_kept(limited: Limited) -> None:
    def conflicts() -> float:
        found = re.search(r"^kaimon_ingest_conflicts_total (\S+)$", limited.metrics().text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    before = conflicts()
    host = limited.new_host()
    for _ in range(2):
        host.batch_seq = 6
        assert limited.server.send(host, host.batch()).json()["duplicate"] is False
    assert conflicts() == before + 1
    assert limited.wire.staged_batches(limited.server.home, host.tenant) == [(host.agent_id, host.load_id, 7)] * 2
