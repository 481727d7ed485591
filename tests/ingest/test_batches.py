"""`POST /v1/batches` on a real server over TLS: what is taken, what is refused, and what that does to neighbours."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import httpx
import pytest
import zstandard

from tenancy.database import Database
from tenancy.enrollment import create_token, list_tokens, revoke_token
from tenancy.tenants import create_tenant, set_subscription
from tenancy.tokens import mint

Make = Callable[[], Any]


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], told["code"], told["type"]) == (status, code, f"urn:kaimon:problem:{code}")
    assert told["title"]
    assert told["request_id"] == answer.headers["x-request-id"]


def test_a_batch_is_durable_when_it_is_answered(server: Any, host: Any, wire: ModuleType) -> None:
    events = host.events(3, path="/srv/\\xff\\x0a name", target_path="/naïve-文件")
    body = zstandard.compress(wire.lines(host.header(hostname="renamed"), *events))
    answer = server.send(host, body)
    assert answer.status_code == 200
    assert answer.json() == {"accepted": 3, "rejected": 0, "duplicate": False, "errors": []}
    (segment,) = wire.segments(server.home, host.tenant)
    (record,) = segment.batches
    assert record.identity == (host.agent_id, host.load_id, 1)
    assert (record.rows, record.occurrences, record.rejected) == (3, 3, 0)
    assert (record.hostname, record.claimed_hostname) == ("host-1", "renamed")
    assert (record.first_time, record.last_time) == (events[0]["time"], events[-1]["time"])
    assert abs(record.received_at - time.time_ns() // 1000) < 60_000_000
    assert record.counters[0]["lost_rows"] == dict.fromkeys(wire.CAUSES, 0)
    assert segment.events["seq"].to_list() == [0, 1, 2]
    assert segment.events["line"].to_list() == [2, 3, 4]
    assert segment.events["path"].unique().to_list() == ["/srv/\\xff\\x0a name"]
    assert segment.events["target_path"].unique().to_list() == ["/naïve-文件"]


def test_a_heartbeat_without_events_is_a_batch(server: Any, host: Any, wire: ModuleType) -> None:
    assert server.send(host, host.batch(0)).json()["accepted"] == 0
    assert wire.staged_batches(server.home, host.tenant) == [(host.agent_id, host.load_id, 1)]


def test_a_body_sent_in_chunks_of_unknown_length_is_taken(server: Any, host: Any, wire: ModuleType) -> None:
    body = host.batch(100)
    pieces = (body[start : start + 100] for start in range(0, len(body), 100))
    assert server.client.post("/v1/batches", content=pieces, headers=host.headers(body)).status_code == 200


def test_a_wrong_type_in_one_line_is_rejected_by_number_and_the_rest_is_staged(
    server: Any, host: Any, wire: ModuleType
) -> None:
    good = host.events(2)
    bad = wire.event(9, pid="4242")
    body = zstandard.compress(wire.lines(host.header(), good[0], bad, good[1], b"garbage \xff"))
    told = server.send(host, body).json()
    assert (told["accepted"], told["rejected"], told["duplicate"]) == (2, 2, False)
    assert [(error["line"], error["code"]) for error in told["errors"]] == [(3, "bad_value"), (5, "malformed_line")]
    assert "$.pid" in told["errors"][0]["detail"]
    (segment,) = wire.segments(server.home, host.tenant)
    assert segment.events["line"].to_list() == [2, 4]
    assert segment.rejected["line"].to_list() == [3, 5]
    assert segment.rejected["raw"].to_list() == [wire.lines(bad)[:-1], b"garbage \xff"]


def test_an_answer_names_the_first_hundred_rejected_lines_and_counts_all(
    server: Any, host: Any, wire: ModuleType
) -> None:
    told = server.send(host, zstandard.compress(wire.lines(host.header(), *[b"x"] * 1000))).json()
    assert (told["rejected"], len(told["errors"])) == (1000, 100)
    assert wire.segments(server.home, host.tenant)[0].rejected.height == 1000


BAD_BODIES: dict[str, tuple[Callable[[bytes], bytes], int, str]] = {
    "garbage": (lambda _: b"this is not zstd", 400, "malformed_body"),
    "nothing": (lambda _: b"", 400, "malformed_body"),
    "truncated zstd": (lambda body: body[:-7], 400, "malformed_body"),
    "trailing bytes": (lambda body: body + b"x", 400, "malformed_body"),
    "two frames": (lambda body: body + body, 400, "malformed_body"),
    "an empty frame": (lambda _: zstandard.compress(b""), 400, "malformed_body"),
    "no last newline": (lambda body: zstandard.compress(zstandard.decompress(body)[:-1]), 400, "malformed_body"),
    "no header": (lambda _: zstandard.compress(b"{}\n"), 400, "bad_header"),
    "a bomb": (lambda _: zstandard.compress(b"\n" * (1 << 30)), 413, "too_large"),
    "too many lines": (lambda body: zstandard.compress(zstandard.decompress(body) + b"\n" * 600_000), 413, "too_large"),
    "too long a body": (lambda _: b"x" * ((8 << 20) + 1), 413, "too_large"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_refused_and_nothing_of_it_is_staged(server: Any, host: Any, wire: ModuleType, name: str) -> None:
    spoil, status, code = BAD_BODIES[name]
    assert_problem(server.send(host, spoil(host.batch())), status, code)
    assert wire.staged_batches(server.home, host.tenant) == []
    assert server.send(host, host.batch()).status_code == 200


def test_a_bomb_that_does_not_say_its_size_is_refused(server: Any, host: Any) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=17, write_content_size=False)
    bomb = zstandard.ZstdCompressor(compression_params=parameters).compress(b"\n" * (1 << 29))
    assert_problem(server.send(host, bomb), 413, "too_large")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "application/json"}, 415, "unsupported_media_type"),
        ({"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        ({"Content-Digest": "sha-256=:nonsense:"}, 400, "bad_digest"),
        ({"Content-Digest": "sha-256=:" + "A" * 43 + "=:"}, 400, "digest_mismatch"),
        ({"Authorization": "Basic dXNlcjpwYXNz"}, 401, "unauthorized"),
        ({"Authorization": ""}, 401, "unauthorized"),
        ({"Authorization": "Bearer kmn_hst_tooshort"}, 401, "unauthorized"),
    ],
)
def test_headers_that_are_wrong_are_refused(
    server: Any, host: Any, headers: dict[str, str], status: int, code: str
) -> None:
    assert_problem(server.send(host, host.batch(), **headers), status, code)


def test_a_batch_that_names_another_agent_is_refused(server: Any, host: Any, new_host: Make, wire: ModuleType) -> None:
    other = new_host()
    body = zstandard.compress(wire.lines(host.header(agent_id=other.agent_id), *host.events(1)))
    assert_problem(server.send(host, body), 403, "agent_mismatch")
    assert wire.staged_batches(server.home, host.tenant) == wire.staged_batches(server.home, other.tenant) == []


def test_a_lapsed_subscription_is_refused_and_a_renewed_one_taken(
    server: Any, database: Database, host: Any, wire: ModuleType
) -> None:
    set_subscription(database, host.tenant, "ended")
    wire.wait_until(lambda: server.send(host, host.batch()).status_code == 403, "the end to be noticed")
    assert_problem(server.send(host, host.batch()), 403, "subscription_lapsed")
    set_subscription(database, host.tenant, "active")
    wire.wait_until(lambda: server.send(host, host.batch()).status_code == 200, "the renewal to be noticed")


def test_an_unknown_credential_is_refused(server: Any, host: Any) -> None:
    host.credential = mint("hst")
    assert_problem(server.send(host, host.batch()), 401, "unauthorized")


def test_an_enrollment_token_is_no_credential(server: Any, database: Database, host: Any) -> None:
    _, host.credential = create_token(database, host.tenant)
    assert_problem(server.send(host, host.batch()), 401, "unauthorized")


def test_a_revoked_credential_is_refused_within_a_second(
    server: Any, database: Database, host: Any, new_host: Make
) -> None:
    neighbour = new_host()
    assert server.send(host, host.batch()).status_code == 200
    (token,) = list_tokens(database, host.tenant)
    assert revoke_token(database, host.tenant, token.token_id) == 1
    revoked = time.monotonic()
    accepted_last = revoked
    while time.monotonic() < revoked + 2.0:
        began = time.monotonic()
        answer = server.send(host, host.batch())
        if answer.status_code == 200:
            accepted_last = began
        else:
            assert_problem(answer, 401, "unauthorized")
    assert accepted_last - revoked < 1.0
    assert server.send(host, host.batch()).status_code == 401
    assert server.send(neighbour, neighbour.batch()).status_code == 200


def test_a_batch_that_comes_again_is_known_and_staged_once(server: Any, host: Any, wire: ModuleType) -> None:
    body = host.batch(5)
    answers = [server.send(host, body).json() for _ in range(3)]
    assert [answer.pop("duplicate") for answer in answers] == [False, True, True]
    assert answers[0] == answers[1] == answers[2] == {"accepted": 5, "rejected": 0, "errors": []}
    assert wire.staged_batches(server.home, host.tenant) == [(host.agent_id, host.load_id, 1)]


def test_the_same_number_with_another_body_is_kept_too(server: Any, host: Any, wire: ModuleType) -> None:
    first = host.batch(1)
    host.batch_seq -= 1
    second = host.batch(1)
    assert [server.send(host, body).json()["duplicate"] for body in (first, second)] == [False, False]
    assert wire.staged_batches(server.home, host.tenant) == [(host.agent_id, host.load_id, 1)] * 2


def test_two_hundred_batches_at_once_are_each_in_exactly_one_segment(
    server: Any, new_host: Make, wire: ModuleType
) -> None:
    hosts = [new_host() for _ in range(4)]
    bodies = [(host, host.batch(20)) for host in hosts for _ in range(50)]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda pair: server.send(*pair), bodies))
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.json()["accepted"] for answer in answers] == [20] * 200
    for host in hosts:
        staged = wire.staged_batches(server.home, host.tenant)
        assert Counter(staged) == dict.fromkeys([(host.agent_id, host.load_id, seq) for seq in range(1, 51)], 1)
        events = [row for segment in wire.segments(server.home, host.tenant) for row in segment.events["seq"]]
        assert sorted(events) == list(range(1000))


def test_a_hundred_copies_at_once_are_staged_once(server: Any, host: Any, wire: ModuleType) -> None:
    body = host.batch(20)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: server.send(host, body), range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert Counter(answer.json()["duplicate"] for answer in answers) == {False: 1, True: 99}
    assert wire.staged_batches(server.home, host.tenant) == [(host.agent_id, host.load_id, 1)]


def test_neighbours_of_the_misbehaved_lose_nothing(server: Any, new_host: Make, wire: ModuleType) -> None:
    good, bad = new_host(), new_host()
    stop = threading.Event()
    seen: Counter[int] = Counter()

    def misbehave() -> None:
        while not stop.is_set():
            for spoil, _, _ in list(BAD_BODIES.values())[:8]:
                seen[server.send(bad, spoil(bad.batch())).status_code] += 1
            seen[
                server.client.post("/v1/batches", content=b"x", headers={"Authorization": "Bearer x"}).status_code
            ] += 1

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(misbehave) for _ in range(2)]
        try:
            answers = [server.send(good, good.batch(10)) for _ in range(20)]
        finally:
            stop.set()
        for each in running:
            each.result()
    assert {answer.status_code for answer in answers} == {200}
    assert set(seen) == {400, 401}
    events = [row for segment in wire.segments(server.home, good.tenant) for row in segment.events["seq"]]
    assert sorted(events) == list(range(200))


def test_a_connection_cut_in_mid_body_leaves_nothing_behind(server: Any, host: Any, wire: ModuleType) -> None:
    body = host.batch(100)
    head = "".join(f"{name}: {value}\r\n" for name, value in host.headers(body).items())
    context = ssl.create_default_context(cafile=str(server.home / "tls" / "ca.pem"))
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        request = f"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}\r\n\r\n"
        connection.sendall(request.encode() + body[:-10])
    wire.wait_until(lambda: "kaimon_ingest_admitted_bytes 0.0" in server.client.get("/metrics").text, "its memory back")
    assert server.send(host, body).json()["duplicate"] is False
    assert wire.staged_batches(server.home, host.tenant) == [(host.agent_id, host.load_id, 1)]


def test_while_storage_fails_batches_are_refused_and_then_taken_without_a_gap(
    server: Any, host: Any, new_host: Make, wire: ModuleType
) -> None:
    neighbour = new_host()
    in_the_way = server.home / "staging" / host.tenant
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.write_bytes(b"")
    body = host.batch(5)
    for _ in range(2):
        refused = server.send(host, body)
        assert_problem(refused, 503, "storage_unavailable")
        assert int(refused.headers["retry-after"]) > 0
    assert_problem(server.client.get("/readyz"), 503, "not_ready")
    assert server.send(neighbour, neighbour.batch()).status_code == 200
    in_the_way.unlink()
    wire.wait_until(lambda: server.client.get("/readyz").status_code == 200, "storage to be back")
    assert server.send(host, body).json()["duplicate"] is True
    assert server.send(host, host.batch(1)).json()["duplicate"] is False
    assert [segment.seq for segment in wire.segments(server.home, host.tenant)] == [1, 2]
    assert wire.staged_batches(server.home, host.tenant) == [(host.agent_id, host.load_id, seq) for seq in (1, 2)]


def test_hints_tell_landing_what_is_staged(server: Any, database: Database, host: Any, wire: ModuleType) -> None:
    from tenancy.hints import all_hints

    server.send(host, host.batch())
    server.send(host, host.batch())

    def hinted() -> bool:
        return [hint.seq for hint in all_hints(database) if hint.tenant_id == host.tenant] == [2]

    wire.wait_until(hinted, "the hint")


class TestEnrollment:
    def test_a_token_is_swapped_for_a_credential_that_works(
        self, server: Any, database: Database, wire: ModuleType
    ) -> None:
        create_tenant(database, "newcomer")
        host = server.enroll(database, "newcomer")
        assert host.tenant == "newcomer"
        assert server.send(host, host.batch()).status_code == 200

    def test_a_token_used_up_or_revoked_or_unknown_is_refused(self, server: Any, database: Database) -> None:
        create_tenant(database, "tokens")
        _, once = create_token(database, "tokens", max_uses=1)
        record, revoked = create_token(database, "tokens")
        revoke_token(database, "tokens", record.token_id)
        server.enroll_with(once)
        for token in (once, revoked, mint("enr"), mint("hst"), "nonsense"):
            answer = server.client.post(
                "/v1/enroll",
                json={
                    "hostname": "a",
                    "boot_id": "0" * 8 + "-0000-0000-0000-" + "0" * 12,
                    "agent_version": "1",
                    "host": {},
                },
                headers={"Authorization": f"Bearer {token}"},
            )
            assert_problem(answer, 401, "unauthorized")

    @pytest.mark.parametrize(
        "change", [{"hostname": "a\nb"}, {"hostname": ""}, {"boot_id": "x"}, {"host": None}, {"more": 1}]
    )
    def test_what_a_host_says_of_itself_is_checked(
        self, server: Any, database: Database, host: Any, change: dict[str, Any]
    ) -> None:
        _, token = create_token(database, host.tenant)
        wish = {"hostname": "a", "boot_id": host.boot_id, "agent_version": "1", "host": {}} | change
        answer = server.client.post("/v1/enroll", json=wish, headers={"Authorization": f"Bearer {token}"})
        assert_problem(answer, 400, "bad_enrollment")

    def test_a_large_or_foreign_body_is_refused(self, server: Any, database: Database, host: Any) -> None:
        _, token = create_token(database, host.tenant)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        assert_problem(server.client.post("/v1/enroll", content=b"x" * 20_000, headers=headers), 413, "too_large")
        headers["Content-Type"] = "text/plain"
        assert_problem(server.client.post("/v1/enroll", content=b"{}", headers=headers), 415, "unsupported_media_type")
