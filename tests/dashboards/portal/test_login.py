"""Login, in every way that it must fail: tokens that do not hold, factors that are missing, sessions that are over."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import func, select

from dashboards.portal.app import SESSION, create_app
from dashboards.portal.settings import PortalSettings
from kaimon.local.provider import Provider
from tenancy.database import Database, open_database
from tenancy.members import invite, list_members, remove_member
from tenancy.people_tables import LOGINS, PORTAL_SESSIONS
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant
from tests.dashboards.portal.lying import (
    URL,
    Answering,
    Clock,
    Liar,
    Visitor,
    refused,
    signed_by,
    unsigned,
)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Callable[[Provider], None]]]:
    """Serve whatever provider a test names, on one port."""
    handler: Any = type("Handler", (Answering,), {})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", lambda provider: setattr(handler, "provider", provider)
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.fixture
def provider(server: tuple[str, Callable[[Provider], None]]) -> Liar:
    made = Liar(server[0], "kaimon", f"{URL}/callback")
    server[1](made)
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def db(tmp_path: Path, clock: Clock) -> Iterator[Database]:
    found = open_database(TenancySettings(home=tmp_path), clock)
    create_tenant(found, "acme", subscription="active")
    invite(found, "acme", "ada@acme.example", "admin")
    yield found
    found.close()


Visit = Callable[[Callable[[Visitor], Any]], Any]


@pytest.fixture
def visit(db: Database, provider: Liar, clock: Clock, tmp_path: Path) -> Callable[..., Any]:
    """Run a visit to a portal with these settings; what the portal shows is what its people's browsers get."""

    def run(what: Callable[[Visitor], Any], **settings: Any) -> Any:
        made = PortalSettings(home=tmp_path, oidc_issuer=provider.issuer, **settings)
        app = create_app(made, clock)

        async def work() -> Any:
            lifespan: AbstractAsyncContextManager[Any] = app.router.lifespan_context(app)
            async with lifespan:
                transport = httpx.ASGITransport(app=app)
                async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
                    return await what(Visitor(client, provider))

        return asyncio.run(work())

    return run


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda claims: {key: value for key, value in claims.items() if key != name}


WRONG: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "nonce": lambda claims: claims | {"nonce": "another"},
    "no nonce": without("nonce"),
    "issuer": lambda claims: claims | {"iss": "https://evil.example"},
    "no issuer": without("iss"),
    "audience": lambda claims: claims | {"aud": "another"},
    "no audience": without("aud"),
    "authorized party": lambda claims: claims | {"aud": ["kaimon", "another"], "azp": "another"},
    "expired": lambda claims: claims | {"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7200},
    "no end": without("exp"),
    "no subject": without("sub"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_id_token_that_says_something_else_lets_nobody_in(
    db: Database, provider: Liar, visit: Any, wrong: str
) -> None:
    provider.change = WRONG[wrong]
    refused(db, visit(lambda visitor: visitor.log_in()))


def test_an_id_token_that_the_provider_did_not_sign_lets_nobody_in(db: Database, provider: Liar, visit: Any) -> None:
    other = RSAKey.generate_key(2048, auto_kid=True)
    public = provider.key.as_pem(private=False)

    forged: list[Callable[[dict[str, Any]], str]] = [
        unsigned,
        lambda claims: jwt.encode({"alg": "RS256", "kid": provider.key.kid}, claims, other),
        lambda claims: jwt.encode({"alg": "RS256"}, claims, other),
        # The public key taken for a shared secret.
        lambda claims: signed_by(public, claims),
        lambda claims: jwt.encode({"alg": "RS256", "kid": provider.key.kid}, claims, provider.key)[:-4] + "AAAA",
        lambda claims: "not a token",
    ]
    for write in forged:
        provider.write = write
        refused(db, visit(lambda visitor: visitor.log_in()))
    provider.write = None
    assert visit(lambda visitor: visitor.log_in()).status_code == 303


def test_an_answer_counts_once_and_only_for_the_login_that_was_begun(db: Database, provider: Liar, visit: Any) -> None:
    async def replay(visitor: Visitor) -> None:
        answer = visitor.agree(await visitor.begin())
        attempt = visitor.portal.cookies["__Host-kaimon-login"]
        assert (await visitor.come_back(answer)).status_code == 303
        # The same address again, with the cookie that it came with: the state is used up.
        visitor.portal.cookies.clear()
        headers = {"Cookie": f"__Host-kaimon-login={attempt}"}
        again = await visitor.portal.get(f"/callback?{urlencode(answer)}", headers=headers)
        assert again.status_code == 403

    visit(replay)

    async def mixed(visitor: Visitor) -> list[int]:
        first = visitor.agree(await visitor.begin())
        second = visitor.agree(await visitor.begin())
        codes = [(await visitor.come_back({**second, "state": first["state"]})).status_code]
        fresh = visitor.agree(await visitor.begin())
        codes.append((await visitor.come_back({**fresh, "iss": "https://evil.example"})).status_code)
        fresh = visitor.agree(await visitor.begin())
        codes.append((await visitor.come_back({"state": fresh["state"], "error": "access_denied"})).status_code)
        codes.append((await visitor.come_back(fresh)).status_code)
        return codes

    assert visit(mixed) == [403, 403, 403, 403]


@pytest.mark.parametrize(
    ("wanted", "led"),
    [
        ("/t/acme/activity?path=/srv/a%20b&day=2026-03-04", "/t/acme/activity?path=/srv/a%20b&day=2026-03-04"),
        ("/", "/"),
        ("//evil.example/t/", "/"),
        ("https://evil.example/t/acme/", "/"),
        ("/t/\\evil.example", "/"),
        ("/t/acme/\r\nSet-Cookie: a=b", "/"),
        ("/t/" + "a" * 5000, "/"),
    ],
)
def test_a_login_leads_to_the_page_that_was_wanted_and_to_no_other_site(visit: Any, wanted: str, led: str) -> None:
    async def log_in(visitor: Visitor) -> list[str]:
        answer = await visitor.portal.get(f"/login?{urlencode({'to': wanted})}")
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        asked = {name: values[0] for name, values in query.items()}
        back = await visitor.come_back(visitor.agree(asked))
        return [back.headers["location"], *back.headers.get_list("set-cookie")]

    found, *cookies = visit(log_in)
    assert found == led
    assert {cookie.partition("=")[0] for cookie in cookies} == {SESSION, "__Host-kaimon-login", "__Host-kaimon-to"}


def test_who_is_not_logged_in_is_led_to_the_login_with_the_page_that_was_wanted(visit: Any) -> None:
    wanted = "/t/acme/activity?path=%2Fsrv%2Fa+b"
    answer = visit(lambda visitor: visitor.portal.get(wanted))
    assert answer.status_code == 303
    assert parse_qs(urlsplit(answer.headers["location"]).query) == {"to": [wanted]}


def test_a_login_that_took_too_long_is_refused(db: Database, visit: Any, clock: Clock) -> None:
    async def slow(visitor: Visitor) -> httpx.Response:
        answer = visitor.agree(await visitor.begin())
        clock.now += timedelta(minutes=11)
        return await visitor.come_back(answer)

    refused(db, visit(slow))


@pytest.mark.parametrize(
    ("claims", "acr", "enters"),
    [
        ({"amr": ["pwd"]}, [], False),
        ({"amr": ["pwd", "mfa"]}, [], True),
        ({"amr": "mfa"}, [], False),
        ({"amr": None}, [], False),
        ({"amr": ["pwd"], "acr": "gold"}, ["gold"], True),
        ({"amr": ["pwd"], "acr": "bronze"}, ["gold"], False),
        ({"amr": ["pwd"], "acr": None}, [], False),
    ],
)
def test_where_a_second_factor_is_required_only_who_proved_it_comes_in(
    db: Database, provider: Liar, visit: Any, claims: dict[str, Any], acr: list[str], *, enters: bool
) -> None:
    provider.change = lambda before: {key: value for key, value in (before | claims).items() if value is not None}

    async def ask(visitor: Visitor) -> httpx.Response:
        asked = await visitor.begin()
        assert asked.get("acr_values") == (" ".join(acr) or None)
        return await visitor.come_back(visitor.agree(asked))

    answer = visit(ask, oidc_require_mfa=True, oidc_mfa_acr=acr)
    if enters:
        assert answer.status_code == 303
    else:
        refused(db, answer)


@pytest.mark.parametrize("verified", [False, "true", 1, None])
def test_an_address_that_is_not_verified_links_to_nobody(
    db: Database, provider: Liar, visit: Any, verified: Any
) -> None:
    assert visit(lambda visitor: visitor.log_in()).status_code == 303
    with db.transaction() as session:
        session.execute(PORTAL_SESSIONS.delete())
    # The same address, said by a login that was never seen.
    provider.change = lambda claims: claims | {"sub": "a stranger", "email_verified": verified}
    refused(db, visit(lambda visitor: visitor.log_in()))
    with db.reading() as session:
        assert session.execute(select(func.count()).select_from(LOGINS)).scalar_one() == 1


def thin(claims: dict[str, Any]) -> dict[str, Any]:
    """What a provider that goes by the letter writes into the ID token when it hands out an access token too."""
    return {key: value for key, value in claims.items() if key not in {"email", "email_verified"}}


def test_an_address_that_only_userinfo_tells_counts_if_it_is_verified_and_the_same_persons(
    db: Database, provider: Liar, visit: Any
) -> None:
    provider.change = thin
    refused(db, visit(lambda visitor: visitor.log_in()))  # nobody says an address
    sub = hashlib.sha256(b"ada@acme.example").hexdigest()[:24]
    said = {"sub": sub, "email": "ada@acme.example", "email_verified": True}
    for wrong in (said | {"sub": "another"}, said | {"email_verified": False}, {"sub": sub}, {}):
        provider.userinfo = wrong
        refused(db, visit(lambda visitor: visitor.log_in()))
    provider.userinfo = said
    assert visit(lambda visitor: visitor.log_in()).status_code == 303
    assert [one.name for one in list_members(db, "acme")] == ["ada@acme.example"]


def test_userinfo_lends_no_verification_to_an_address_in_the_id_token(db: Database, provider: Liar, visit: Any) -> None:
    provider.change = lambda claims: claims | {"email_verified": False}
    provider.userinfo = {
        "sub": hashlib.sha256(b"ada@acme.example").hexdigest()[:24],
        "email": "ada@acme.example",
        "email_verified": True,
    }
    refused(db, visit(lambda visitor: visitor.log_in()))


@pytest.mark.parametrize(("supported", "required"), [(True, True), (True, False), (False, True)])
def test_how_somebody_proved_themselves_is_asked_for_where_it_matters_and_can_be(
    provider: Liar, visit: Any, *, supported: bool, required: bool
) -> None:
    provider.published = {"claims_parameter_supported": supported}
    asked = visit(lambda visitor: visitor.begin(), oidc_require_mfa=required)
    assert ("claims" in asked) is (supported and required)
    if "claims" in asked:
        assert json.loads(asked["claims"]) == {"id_token": {"amr": None, "acr": None}}


def test_an_address_that_changes_at_the_provider_makes_nobody_somebody_else(
    db: Database, provider: Liar, visit: Any
) -> None:
    """Whoever was seen is known by the provider's number, whatever address it says now."""
    assert visit(lambda visitor: visitor.log_in()).status_code == 303
    invite(db, "acme", "mallory@acme.example", "member")
    assert visit(lambda visitor: visitor.log_in("mallory@acme.example")).status_code == 303
    before = {one.person_id: one.role for one in list_members(db, "acme")}
    provider.change = lambda claims: claims | {"email": "ada@acme.example"}
    assert visit(lambda visitor: visitor.log_in("mallory@acme.example")).status_code == 303
    assert {one.person_id: one.role for one in list_members(db, "acme")} == before


def test_a_session_is_over_when_nobody_used_it_and_at_its_end_however_used(
    db: Database, visit: Any, clock: Clock
) -> None:
    async def idle(visitor: Visitor) -> list[int]:
        await visitor.log_in()
        codes = []
        for minutes in (29, 29, 31):
            clock.now += timedelta(minutes=minutes)
            codes.append((await visitor.portal.get("/t/acme/team")).status_code)
        return codes

    assert visit(idle, session_idle_minutes=30) == [200, 200, 303]

    async def used(visitor: Visitor) -> list[int]:
        await visitor.log_in()
        codes = []
        for _ in range(5):
            clock.now += timedelta(minutes=29)
            codes.append((await visitor.portal.get("/t/acme/team")).status_code)
        return codes

    assert visit(used, session_idle_minutes=30, session_hours=2) == [200, 200, 200, 200, 303]


def test_a_login_takes_a_new_id_and_the_one_before_ends_on_the_server(db: Database, visit: Any) -> None:
    async def twice(visitor: Visitor) -> None:
        fixed = {SESSION: "chosen-by-somebody-else"}
        visitor.portal.cookies.update(fixed)
        await visitor.log_in()
        first = visitor.portal.cookies.jar
        held = [cookie.value for cookie in first if cookie.name == SESSION and cookie.domain]
        assert "chosen-by-somebody-else" not in held
        mine = held[-1]
        visitor.portal.cookies.clear()
        headers = {"Cookie": f"{SESSION}={mine}"}
        assert (await visitor.portal.get("/t/acme/team", headers=headers)).status_code == 200
        foreign = {"Cookie": f"{SESSION}=chosen-by-somebody-else"}
        assert (await visitor.portal.get("/t/acme/team", headers=foreign)).status_code == 303
        visitor.portal.cookies.clear()
        visitor.portal.cookies.set(SESSION, str(mine), domain="localhost.local", path="/")
        await visitor.log_in()
        visitor.portal.cookies.clear()
        assert (await visitor.portal.get("/t/acme/team", headers=headers)).status_code == 303

    visit(twice)


def test_who_was_invited_and_then_removed_has_nothing_left_at_the_next_request(db: Database, visit: Any) -> None:
    invite(db, "acme", "eve@acme.example", "member")

    async def be_removed(visitor: Visitor) -> list[int]:
        await visitor.log_in()
        await visitor.log_in("eve@acme.example")
        codes = [(await visitor.portal.get("/t/acme/team")).status_code]
        eve = next(one.person_id for one in list_members(db, "acme") if one.role == "member")
        remove_member(db, "acme", eve)
        codes.append((await visitor.portal.get("/t/acme/team")).status_code)
        # Nor by logging in again: the invitation is spent.
        await visitor.log_in("eve@acme.example")
        codes.append((await visitor.portal.get("/t/acme/team")).status_code)
        return codes

    assert visit(be_removed) == [200, 404, 404]
