"""A provider that says what a test says, and a browser that does: what a login must not fall for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from joserfc import jwt
from sqlalchemy import func, select

from dashboards.portal.app import SESSION
from kaimon.local.provider import Provider, _Handler
from tenancy.database import Database
from tenancy.people_tables import PORTAL_SESSIONS

URL = "https://localhost:8444"
START = datetime(2026, 3, 4, 12, tzinfo=UTC)


class Liar(Provider):
    """A provider whose next ID token is what a test says: its claims are changed, or the whole of it."""

    change: Callable[[dict[str, Any]], dict[str, Any]] = staticmethod(lambda claims: claims)
    write: Callable[[dict[str, Any]], str] | None = None
    userinfo: dict[str, Any] | None = None
    published: dict[str, Any] = {}  # noqa: RUF012 - each provider is given its own

    def discovery(self) -> dict[str, Any]:
        there = {} if self.userinfo is None else {"userinfo_endpoint": f"{self.issuer}/userinfo"}
        return super().discovery() | there | self.published

    def swap(self, form: Any) -> dict[str, Any] | None:
        found = super().swap(form)
        if found is None:
            return None
        claims = self.change(dict(jwt.decode(found["id_token"], self.key).claims))
        token = jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)
        self.access_token = found["access_token"]
        return found | {"id_token": token if self.write is None else self.write(claims)}


class Answering(_Handler):
    """Also says who a bearer of an access token is, for a provider that does."""

    def do_GET(self) -> None:  # noqa: N802 - the base class's
        provider: Any = self.provider
        if self.path != "/userinfo":
            super().do_GET()
        elif self.headers["Authorization"] == f"Bearer {provider.access_token}":
            self._json(200, provider.userinfo)
        else:
            self._json(401, {"error": "invalid_token"})


class Clock:
    """A clock that stands where it was set."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class Visitor:
    """A browser that sends what a test says."""

    def __init__(self, portal: httpx.AsyncClient, provider: Liar) -> None:
        self.portal, self.provider = portal, provider

    async def begin(self) -> dict[str, str]:
        answer = await self.portal.get("/login")
        assert answer.status_code == 303
        return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}

    def agree(self, asked: dict[str, str], email: str = "ada@acme.example", **also: str) -> dict[str, str]:
        code = self.provider.code_for({**asked, "email": email, **also})
        return {"code": code, "state": asked["state"], "iss": self.provider.issuer}

    async def come_back(self, answer: dict[str, str]) -> httpx.Response:
        return await self.portal.get(f"/callback?{urlencode(answer)}")

    async def log_in(self, email: str = "ada@acme.example", **also: str) -> httpx.Response:
        return await self.come_back(self.agree(await self.begin(), email, **also))


def sessions(db: Database) -> int:
    with db.reading() as session:
        return int(session.execute(select(func.count()).select_from(PORTAL_SESSIONS)).scalar_one())


def refused(db: Database, answer: httpx.Response) -> None:
    assert answer.status_code == 403, answer.text
    assert not [cookie for cookie in answer.headers.get_list("set-cookie") if cookie.startswith(f"{SESSION}=")]
    assert sessions(db) == 0


def part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def unsigned(claims: dict[str, Any], algorithm: str = "none") -> str:
    return f"{part(json.dumps({'alg': algorithm}).encode())}.{part(json.dumps(claims).encode())}."


def signed_by(secret: bytes, claims: dict[str, Any]) -> str:
    """Return a token signed with a shared secret."""
    text = unsigned(claims, "HS256").rstrip(".")
    return f"{text}.{part(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"
