"""The API as a program uses it: pages, conditions, retries, limits, and what it leaves behind."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import pytest

from dashboards.portal.api.call import page_of, read_cursor, write_cursor
from dashboards.portal.api.limits import RateLimit
from kaimon.base.problems import Problem
from tenancy.api_keys import list_api_keys, revoke_api_key
from tenancy.audit import read_chain
from tenancy.enrollment import create_token
from tenancy.members import invite


@pytest.fixture(scope="module")
def client(portal: Any) -> httpx.Client:
    found: httpx.Client = portal.api("bolt", "read:*", "write:*")
    return found


def test_a_token_is_made_once_however_often_the_request_is_sent(portal: Any, client: httpx.Client) -> None:
    before = len(client.get("/tokens?limit=500").json()["items"])
    answers: list[httpx.Response] = []

    def send() -> None:
        headers = {"Idempotency-Key": "order-7"}
        answers.append(client.post("/tokens", json={"label": "seven"}, headers=headers))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    send()
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {201, 409}
    made = [answer for answer in answers if answer.status_code == 201]
    assert len({answer.text for answer in made}) == 1
    assert sum("idempotent-replay" not in answer.headers for answer in made) == 1
    assert answers[-1].headers["idempotent-replay"] == "true"
    assert len(client.get("/tokens?limit=500").json()["items"]) == before + 1
    other = client.post("/tokens", json={"label": "eight"}, headers={"Idempotency-Key": "order-7"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    mine = portal.api("bolt", "write:tokens").post(
        "/tokens", json={"label": "seven"}, headers={"Idempotency-Key": "order-7"}
    )
    assert "idempotent-replay" not in mine.headers
    wrong = client.post("/tokens", json={}, headers={"Idempotency-Key": "x" * 300})
    assert wrong.status_code == 400


def test_a_refusal_is_told_again_too(client: httpx.Client) -> None:
    for again in (False, True):
        answer = client.post("/tokens", json={"max_uses": 0}, headers={"Idempotency-Key": "none"})
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert ("idempotent-replay" in answer.headers) is again


def test_what_has_changed_since_it_was_read_is_not_changed_unseen(portal: Any, client: httpx.Client) -> None:
    made = client.post("/tokens", json={"label": "mine"})
    path = "/tokens/" + made.json()["token"]["token_id"]
    assert made.headers["location"] == f"/api/v1{path}"
    assert client.get(path).headers["etag"] == made.headers["etag"]
    stale = client.delete(path, headers={"If-Match": '"another"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "changed_meanwhile")
    assert client.get(path).json()["revoked_at"] is None
    assert client.delete(path, headers={"If-Match": made.headers["etag"]}).json() == {"credentials_ended": 0}
    assert client.get(path).json()["revoked_at"] is not None
    assert client.get(path).headers["etag"] != made.headers["etag"]


def test_a_member_is_changed_as_seen_and_the_last_admin_stays(portal: Any, stranger: Any, client: httpx.Client) -> None:
    (sue,) = client.get("/team/members").json()["items"]
    path = f"/team/members/{sue['person_id']}"
    refused = client.patch(path, json={"role": "member"})
    assert (refused.status_code, refused.json()["code"]) == (409, "last_admin")
    assert client.delete(path).status_code == 409
    portal.member("bolt", "zoe@bolt.example", "member")
    zoe = next(one for one in client.get("/team/members").json()["items"] if one["role"] == "member")
    path = f"/team/members/{zoe['person_id']}"
    seen = client.get(path).headers["etag"]
    changed = client.patch(path, json={"role": "admin"}, headers={"If-Match": seen})
    assert changed.json()["role"] == "admin"
    assert client.delete(path, headers={"If-Match": seen}).status_code == 412
    assert client.delete(path, headers={"If-Match": changed.headers["etag"]}).status_code == 204
    assert client.get(path).status_code == 404


def test_what_a_key_does_is_in_the_chain_under_its_id(portal: Any, client: httpx.Client) -> None:
    key_id = client.get("/key").json()["key_id"]
    made = client.post("/team/invitations", json={"email": "neo@bolt.example"}).json()
    assert client.delete(f"/team/invitations/{made['invitation_id']}").status_code == 204
    records = [
        one.content for one in read_chain(portal.db, "bolt")[1] if one.content["subject"] == made["invitation_id"]
    ]
    assert [(one["act"], one["actor"]) for one in records] == [("member.invite", key_id), ("member.withdraw", key_id)]
    assert all(one["request_id"].startswith("req_") for one in records)
    assert client.get("/audit/verification").json()["holds"] is True
    newest = client.get("/audit?limit=2").json()["items"]
    assert [one["content"]["act"] for one in newest] == ["member.withdraw", "member.invite"]


def test_pages_together_hold_every_item_once(portal: Any, client: httpx.Client) -> None:
    for number in range(5):
        invite(portal.db, "bolt", f"guest{number}@bolt.example", "member")
    for path in ("/team/invitations", "/audit", "/tokens"):
        whole = client.get(path, params={"limit": 500}).json()["items"]
        found: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            page = client.get(path, params={"limit": 2, **cursor}).json()
            found += page["items"]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert found == whole
        assert len(whole) >= 3


@pytest.mark.parametrize("cursor", ["x", "W10", "eyJhIjoxfQ", "é", "bnVsbA", write_cursor(["events"], ["tok_0"])])
def test_what_is_no_cursor_of_this_question_is_refused(client: httpx.Client, cursor: str) -> None:
    for path in ("/tokens", "/audit", "/findings", "/events", "/reports"):
        answer = client.get(path, params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor"), path


def test_a_cursor_goes_on_with_its_own_question_alone() -> None:
    cursor = write_cursor(["events", "a"], [1, "x"])
    assert read_cursor(["events", "a"], cursor, 2) == [1, "x"]
    with pytest.raises(Problem):
        read_cursor(["events", "b"], cursor, 2)
    page = page_of(["a", "b", "c"], str, ["letters"], None, 2)
    assert page_of(["a", "b", "c"], str, ["letters"], page.next, 2).items == ["c"]
    with pytest.raises(Problem) as caught:
        page_of(["a", "c"], str, ["letters"], page.next, 2)
    assert caught.value.status == 410


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/events?from=2026-03-04T00:00:00Z&to=2026-06-04T00:00:00Z", "bad_range"),
        ("/events?from=2026-03-04T00:00:00Z&to=2026-03-03T00:00:00Z", "bad_range"),
        ("/events?to=2026-03-04T00:00:00", "bad_moment"),
        ("/events?to=0001-01-01T00:00:00Z", "bad_moment"),
        ("/events?path=%00", "bad_filter"),
        ("/events?limit=501", "bad_request"),
        ("/quality?day=9999-12-31", "bad_day"),
        ("/quality?day=yesterday", "bad_request"),
    ],
)
def test_a_question_beyond_the_limits_is_refused(client: httpx.Client, path: str, code: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"method": "GET", "url": "/nothing"}, 404),
        ({"method": "PUT", "url": "/tokens"}, 405),
        ({"method": "POST", "url": "/tokens", "content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"method": "POST", "url": "/tokens", "json": {"label": "x", "more": 1}}, 400),
        ({"method": "POST", "url": "/tokens", "data": {"label": "x"}}, 415),
        ({"method": "POST", "url": "/tokens", "json": {"label": "x" * 70_000}}, 413),
        ({"method": "POST", "url": "/team/invitations", "json": {"email": "no address"}}, 400),
        ({"method": "GET", "url": "/reports/2026-13-01"}, 404),
        ({"method": "GET", "url": "/tokens/a%0Ab"}, 404),
        (
            {"method": "POST", "url": "/tokens", "content": b"\xff", "headers": {"Content-Type": "application/json"}},
            400,
        ),
        ({"method": "GET", "url": "/reports/2026-W99/facts"}, 404),
    ],
)
def test_every_refusal_is_a_problem_document(client: httpx.Client, request_: dict[str, Any], status: int) -> None:
    answer = client.request(**request_)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["type"] == f"urn:kaimon:problem:{told['code']}"
    assert told["request_id"] == answer.headers["x-request-id"]


def test_a_revoked_key_is_refused_at_its_next_request(portal: Any) -> None:
    program = portal.api("bolt", "read:hosts")
    assert program.get("/hosts").status_code == 200
    revoke_api_key(portal.db, "bolt", list_api_keys(portal.db, "bolt")[-1].key_id)
    assert program.get("/hosts").status_code == 401


def test_a_key_is_made_on_its_page_shown_once_and_revoked_there(portal: Any, stranger: Any) -> None:
    page = stranger.post("/t/bolt/keys", days="7", label="<b>wiki</b>", **{"read:hosts": "on"})
    key = page.text.partition('id="secret">')[2].partition("<")[0]
    assert key.startswith("kmn_api_")
    assert key not in stranger.get("/t/bolt/keys").text
    assert "<b>wiki" not in page.text
    ask = {"Authorization": f"Bearer {key}"}
    url = f"{portal.url}/api/v1/hosts"
    assert httpx.get(url, verify=portal.trust, trust_env=False, headers=ask).status_code == 200
    made = list_api_keys(portal.db, "bolt")[-1]
    assert made.created_by.startswith("prs_")
    assert "never used" not in stranger.get(f"/t/bolt/keys/revoke?key={made.key_id}").text
    assert stranger.post("/t/bolt/keys/revoke", key=made.key_id).status_code == 303
    assert httpx.get(url, verify=portal.trust, trust_env=False, headers=ask).status_code == 401
    assert stranger.post("/t/bolt/keys", days="7").status_code == 400
    assert stranger.post("/t/bolt/keys", days="400", **{"read:hosts": "on"}).status_code == 400
    assert key[8:-4] not in portal.log.read_text()


def test_every_answer_says_what_is_left_of_the_minute_and_one_too_many_is_refused(start_portal: Any) -> None:
    running = start_portal(KAIMON_API_PER_MINUTE="3")
    program = running.api("acme", "read:hosts")
    answers = [program.get("/key") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0"]
    assert answers[0].headers["ratelimit-policy"] == '"minute";q=3;w=60'
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60
    assert running.api("acme", "read:hosts").get("/key").status_code == 200


def test_a_minute_later_a_key_may_ask_again() -> None:
    now = [0.0]
    limit = RateLimit(2, lambda: now[0])
    assert [limit.take("a").over for _ in range(3)] == [False, False, True]
    assert not limit.take("b").over
    now[0] = 60.0
    assert limit.take("a").left == 1


def test_the_document_names_every_route_its_scope_and_the_key(portal: Any) -> None:
    made = httpx.get(f"{portal.url}/api/v1/openapi.json", verify=portal.trust, trust_env=False).json()
    assert made["openapi"] == "3.1.0"
    assert made["paths"]["/tokens"]["post"]["x-kaimon-scope"] == "write:tokens"
    assert made["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    text = json.dumps(made)
    assert "HTTPValidationError" not in text
    for path in made["paths"].values():
        for operation in path.values():
            assert operation["description"]
            assert operation["responses"]["429"]["content"].keys() == {"application/problem+json"}


def test_a_filter_is_a_name_and_nothing_else(portal: Any, client: httpx.Client) -> None:
    create_token(portal.db, "acme")
    for name in ("'; DROP TABLE events; --", "' OR '1'='1", "\\'", "\u202e"):
        answer = client.get("/events", params={"user": name})
        assert (answer.status_code, answer.json()["items"]) == (200, [])
