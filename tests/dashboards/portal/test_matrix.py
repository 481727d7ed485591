"""Who may do what on every route of the portal and its API: each cell as intended, no route without an intention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest

from dashboards.portal.api.edge import ROUTES as API_ROUTES
from dashboards.portal.pages import ROUTES
from tenancy.api_keys import SCOPES, create_api_key
from tenancy.enrollment import create_token, enroll
from tenancy.members import invite, list_members
from tenancy.recipients import add_recipient

PAGES: Final = {
    "member": {
        ("GET", ""),
        ("GET", "activity"),
        ("GET", "activity.csv"),
        ("GET", "activity.parquet"),
        ("GET", "activity/event"),
        ("GET", "findings"),
        ("GET", "hosts"),
        ("GET", "hosts/heard"),
        ("GET", "tokens"),
        ("GET", "team"),
        ("GET", "reports"),
        ("GET", "reports/facts"),
        ("GET", "reports/file"),
        ("GET", "quality"),
        ("GET", "billing"),
        ("GET", "security"),
        ("GET", "security/agent"),
        ("GET", "retention"),
    },
    "admin": {
        ("POST", "tokens"),
        ("GET", "tokens/revoke"),
        ("POST", "tokens/revoke"),
        ("POST", "team/invite"),
        ("POST", "team/withdraw"),
        ("POST", "team/role"),
        ("POST", "team/remove"),
        ("GET", "keys"),
        ("POST", "keys"),
        ("GET", "keys/revoke"),
        ("POST", "keys/revoke"),
        ("GET", "audit"),
        ("POST", "reports/schedule"),
        ("POST", "reports/add"),
        ("POST", "reports/remove"),
        ("POST", "billing/subscribe"),
        ("POST", "billing/manage"),
        ("GET", "retention/erase"),
        ("POST", "retention/erase"),
        ("POST", "retention/withdraw"),
    },
}
"""Which pages are whose: a new route goes in here, by somebody who has thought about it."""
API: Final = {
    None: {("GET", "/key")},
    "read:hosts": {("GET", "/hosts"), ("GET", "/hosts/{agent_id}")},
    "read:tokens": {("GET", "/tokens"), ("GET", "/tokens/{token_id}")},
    "write:tokens": {("POST", "/tokens"), ("DELETE", "/tokens/{token_id}")},
    "read:events": {("GET", "/events"), ("GET", "/activity/histogram")},
    "read:findings": {("GET", "/findings")},
    "read:quality": {("GET", "/quality")},
    "read:reports": {
        ("GET", "/reports"),
        ("GET", "/mailing"),
        ("GET", "/reports/{period}"),
        ("GET", "/reports/{period}/facts"),
    },
    "read:team": {("GET", "/team/members"), ("GET", "/team/members/{person_id}"), ("GET", "/team/invitations")},
    "write:team": {
        ("PATCH", "/team/members/{person_id}"),
        ("DELETE", "/team/members/{person_id}"),
        ("POST", "/team/invitations"),
        ("DELETE", "/team/invitations/{invitation_id}"),
    },
    "read:audit": {("GET", "/audit"), ("GET", "/audit/verification")},
    "read:subscription": {("GET", "/subscription"), ("GET", "/usage")},
    "read:retention": {("GET", "/retention"), ("GET", "/retention/held")},
}
"""What a key must be allowed for which route."""
BY_ID: Final = {"tokens/revoke", "keys/revoke", "team/withdraw", "team/role", "team/remove", "reports/remove"}
"""Pages that are told an id."""
HOST: Final[dict[str, Any]] = {"os": "debian 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None}


def test_every_route_has_a_declared_intention_and_keeps_to_it() -> None:
    assert {role: {(one.method, one.path) for one in ROUTES if one.role == role} for role in PAGES} == PAGES
    assert sum(len(paths) for paths in PAGES.values()) == len(ROUTES)
    assert {scope: {(one.method, one.path) for one in API_ROUTES if one.scope == scope} for scope in API} == API
    assert sum(len(paths) for paths in API.values()) == len(API_ROUTES)
    assert set(API) - {None} == set(SCOPES)


@dataclass(frozen=True)
class Theirs:
    """What acme has: an id of each kind."""

    token_id: str
    agent_id: str
    person_id: str
    invitation_id: str
    key_id: str
    recipient_id: str
    period: str = "2026-03-04"

    def path(self, template: str) -> str:
        return template.format(**vars(self))


@pytest.fixture(scope="module")
def theirs(portal: Any, admin: Any) -> Theirs:
    token, secret = create_token(portal.db, "acme", "of acme")
    host = enroll(portal.db, secret, "acme-host", HOST, "boot", "1.0")
    person = list_members(portal.db, "acme")[0].person_id
    invited = invite(portal.db, "acme", "guest@acme.example", "member")
    reader, _ = add_recipient(portal.db, "acme", "reader@acme.example")
    key, _ = create_api_key(portal.db, "acme", ["read:*"], "of acme")
    return Theirs(token.token_id, host.agent_id, person, invited.invitation_id, key.key_id, reader.recipient_id)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path or '/'}")
@pytest.mark.parametrize("who", ["nobody", "stranger", "member", "admin"])
def test_every_role_may_do_on_every_page_what_it_may_and_nothing_else(
    portal: Any, request: pytest.FixtureRequest, who: str, route: Any
) -> None:
    browser = portal.browser() if who == "nobody" else request.getfixturevalue(who)
    path = f"/t/acme/{route.path}"
    answer = browser.get(path) if route.method == "GET" else browser.post(path, uses="nonsense")
    if who == "nobody":
        expected = {303} if route.method == "GET" else {401}
    elif who == "stranger":
        expected = {404}
    elif who == "member" and route.role == "admin":
        expected = {403}
    else:  # let in: what they ask for is nonsense where it is a change
        expected = {200, 404} if route.method == "GET" else {400, 404}
    assert answer.status_code in expected, answer.text
    if answer.status_code == 404 and who == "stranger":
        assert "acme" not in answer.text


def test_no_page_of_ones_own_tenant_shows_or_changes_anything_by_another_tenants_id(
    portal: Any, admin: Any, stranger: Any, theirs: Theirs
) -> None:
    mine = portal.api("acme", "read:*")
    before = {path: mine.get(path).json()["items"] for path in ("/tokens", "/team/members", "/team/invitations")}
    tried = 0
    for route in ROUTES:
        for field, value in (
            ("token", theirs.token_id),
            ("person", theirs.person_id),
            ("invitation", theirs.invitation_id),
            ("key", theirs.key_id),
            ("recipient", theirs.recipient_id),
        ):
            path = f"/t/bolt/{route.path}"
            if route.path in {"tokens/revoke", "keys/revoke"} and route.method == "GET":
                answer = stranger.get(f"{path}?{field}={value}")
            elif route.path in {
                "tokens/revoke",
                "keys/revoke",
                "team/withdraw",
                "team/role",
                "team/remove",
                "reports/remove",
            }:
                answer = stranger.post(path, role="member", **{field: value})
            else:
                continue
            tried += 1
            assert answer.status_code == 404, (route, field)
            assert value not in answer.text
    assert tried == 40
    assert {path: mine.get(path).json()["items"] for path in before} == before


def ask(client: httpx.Client, route: Any, path: str) -> httpx.Response:
    """Ask for what is there, and for changes that cannot be made."""
    body = None if route.method in {"GET", "DELETE"} else {"nonsense": True}
    return client.request(route.method, path, json=body)


@pytest.fixture(scope="module")
def clients(portal: Any) -> dict[str, httpx.Client]:
    """Programs of acme that may do one thing, and all but that; by scope."""
    found = {"stranger": portal.api("bolt", *SCOPES)}
    for scope in SCOPES:
        found[scope] = portal.api("acme", scope)
        found[f"all but {scope}"] = portal.api("acme", *(other for other in SCOPES if other != scope))
    return found


@pytest.mark.parametrize("route", API_ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_key_may_ask_on_every_route_what_it_may_and_nothing_else(
    portal: Any, clients: dict[str, httpx.Client], theirs: Theirs, route: Any
) -> None:
    path = theirs.path(route.path)
    url = f"{portal.url}/api/v1{path}"
    for headers in ({}, {"Authorization": "Bearer kmn_api_nonsense"}, {"Authorization": "Basic YTpi"}):
        answer = httpx.request(route.method, url, verify=portal.trust, trust_env=False, headers=headers, timeout=60)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
    if route.scope is not None:
        without = ask(clients[f"all but {route.scope}"], route, path)
        assert (without.status_code, without.json()["code"]) == (403, "missing_scope")
    stranger = ask(clients["stranger"], route, path)
    if path != route.path and route.method != "PATCH":
        assert stranger.status_code == 404
    else:
        assert stranger.status_code == (200 if route.method == "GET" else 400)
    for value in vars(theirs).values():
        assert value not in stranger.text
    assert "acme" not in stranger.text
    # With the key that may: a look at what is there, a change that cannot be made.
    allowed = clients[route.scope or "read:hosts"]
    if route.method == "DELETE":
        answer = ask(allowed, route, path[:-4] + "0000")
        assert answer.status_code == 404
    elif route.method == "GET":
        answer = ask(allowed, route, path)
        assert answer.status_code == (404 if "{period}" in route.path else 200), answer.text
        if path != route.path and answer.status_code == 200:
            assert path.rpartition("/")[2] in answer.text
    else:
        assert ask(allowed, route, path).status_code == 400


def test_a_change_by_another_tenants_id_changes_nothing(
    portal: Any, clients: dict[str, httpx.Client], theirs: Theirs
) -> None:
    mine = portal.api("acme", "read:*")
    paths = ("/tokens", "/team/members", "/team/invitations")
    before = {path: mine.get(path).json() for path in paths}
    stranger = clients["stranger"]
    assert stranger.patch(theirs.path("/team/members/{person_id}"), json={"role": "member"}).status_code == 404
    for path in ("/tokens/{token_id}", "/team/members/{person_id}", "/team/invitations/{invitation_id}"):
        assert stranger.delete(theirs.path(path)).status_code == 404
    assert {path: mine.get(path).json() for path in paths} == before


def test_a_session_of_the_portal_is_no_key(portal: Any, admin: Any) -> None:
    assert admin.get("/api/v1/hosts").status_code == 401
