"""The API's outermost layer: whose key, how often, may it, was it asked before; every error as problem+json."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from dashboards.portal.api import answers, data, team, tenant
from dashboards.portal.api.call import ApiCall, ApiRoute, Turns, not_found
from dashboards.portal.api.document import document
from dashboards.portal.api.limits import Allowance, RateLimit
from dashboards.portal.scope import scope_by_key
from kaimon.base.access import OK, Access, report
from kaimon.base.acting import Actor, acting_as
from kaimon.base.clock import utc_now
from kaimon.base.logs import get_logger
from kaimon.base.problems import PROBLEM_TYPE, Problem
from lake.settings import LakeSettings
from tenancy.database import Database
from tenancy.limits import SourceLimiter
from tenancy.members import LastAdminError
from tenancy.missing import MissingError
from tenancy.refusals import answering_unavailable

ROUTES: Final[tuple[ApiRoute, ...]] = (*tenant.ROUTES, *data.ROUTES, *team.ROUTES)
"""Below `/api/v1`; the tests' matrix and the OpenAPI document are made from this."""
_REFUSALS: Final = 400
MAX_BODY_BYTES: Final = 64 * 1024
_BEARER: Final = re.compile(r"[Bb]earer +(\S+)")
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Api:
    """The ASGI application below `/api/v1`."""

    def __init__(self, shared: Callable[[], tuple[Database, LakeSettings]], per_minute: int, queries: int) -> None:
        """Take what requests share, once there is one: the database is open only then."""
        self._shared = shared
        self._limiter, self._rate, self._turns = SourceLimiter(), RateLimit(per_minute), Turns(queries)
        self._app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        self._routes: list[tuple[APIRoute, ApiRoute]] = []
        for route in ROUTES:
            before = len(self._app.router.routes)
            self._app.add_api_route(route.path, route.answer, methods=[route.method], status_code=route.status)
            made = self._app.router.routes[before]
            if isinstance(made, APIRoute):
                self._routes.append((made, route))
        self._app.add_exception_handler(RequestValidationError, _malformed)
        self._app.add_exception_handler(HTTPException, _refused)
        self._app.add_exception_handler(Problem, _raised)
        self._app.add_exception_handler(ValueError, _raised)
        self.document = document(self._app, ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request, began = Request(scope, receive), time.perf_counter()
        request_id = f"req_{secrets.token_hex(8)}"
        scope["kaimon_request_id"] = request_id
        try:
            answer = await self._answered(request)
        except Problem as problem:
            answer = _problem(request, problem)
        except Exception:  # noqa: BLE001 - the edge: logged here, once
            get_logger(__name__).exception("api_failed", request_id=request_id)
            answer = _problem(request, Problem(500, "internal", "Something went wrong", f"Tell us {request_id}."))
        code = scope.get("kaimon_code", OK if answer.status_code < _REFUSALS else "refused_again")
        allowance: Allowance | None = scope.get("kaimon_allowance")
        answer.headers.update(_HEADERS | {"X-Request-Id": request_id} | (allowance.headers if allowance else {}))
        call: ApiCall | None = scope.get("kaimon_call")
        report(
            Access(
                at=utc_now(),
                kind="call",
                what=f"api {request.method} {scope.get('kaimon_route', 'other')}",
                outcome=code,
                tenant=call.scope.tenant_id if call else None,
                who=call.key.key_id if call else None,
                origin=_origin(request),
                request_id=request_id,
                status=answer.status_code,
                took_ms=round((time.perf_counter() - began) * 1000, 1),
            )
        )
        await answer(scope, receive, send)

    async def _answered(self, request: Request) -> Response:
        path = _path(request.scope)
        if (request.method, path) == ("GET", "/openapi.json"):
            request.scope["kaimon_route"] = path
            return JSONResponse(self.document)
        found = _BEARER.fullmatch(request.headers.get("authorization", ""))
        if found is None:
            raise Problem(401, "unauthorized", "No API key", None, {"WWW-Authenticate": "Bearer"})
        call = await run_in_threadpool(self._call, request, found[1])
        request.scope["kaimon_call"] = call
        allowance = self._rate.take(call.key.key_id)
        request.scope["kaimon_allowance"] = allowance
        if allowance.over:
            after = {"Retry-After": str(allowance.reset_s)}
            raise Problem(429, "too_many_requests", "Too many requests", "for this key", after)
        route = self._route(request, path)
        request.scope["kaimon_route"] = f"/api/v1{route.path}"
        if route.scope is not None and route.scope not in call.key.scopes:
            raise Problem(403, "missing_scope", "The key does not allow this", f"It needs {route.scope}.")
        body = await _body(request)
        with acting_as(Actor(call.key.key_id, _origin(request), request.scope["kaimon_request_id"])):
            name = request.headers.get("idempotency-key")
            if route.method != "POST" or name is None:
                return await self._inner(request, path, body)
            asked = f"{route.method} {path}?{request.url.query}\n".encode() + body
            return await answers.once(call, (found[1], name), asked, lambda: self._inner(request, path, body))

    def _call(self, request: Request, token: str) -> ApiCall:
        db, lake = self._shared()
        scope, key = scope_by_key(db, token, _origin(request) or "", self._limiter)
        if_match = ", ".join(request.headers.getlist("if-match")) or None
        return ApiCall(db, lake, scope, key, db.clock(), if_match, self._turns)

    def _route(self, request: Request, path: str) -> ApiRoute:
        asked = {"type": "http", "path": path, "root_path": "", "method": request.method}
        others = []
        for route, ours in self._routes:
            match, _ = route.matches(asked)
            if match == Match.FULL:
                return ours
            if match == Match.PARTIAL:
                others.append(ours.method)
        if others:
            raise Problem(405, "wrong_method", "Not by this method", None, {"Allow": ", ".join(others)})
        raise Problem(404, "not_found", "Not found")

    async def _inner(self, request: Request, path: str, body: bytes) -> Response:
        """Have the framework answer, whole, so that what it says can still be kept or changed."""
        start: dict[str, Any] = {}
        parts: list[bytes] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            start.update(message if message["type"] == "http.response.start" else {})
            parts.append(message.get("body", b""))

        # What it shares with ours is what its handlers look up there.
        scope = {**request.scope, "path": path, "root_path": "", "kaimon_request": request}
        with answering_unavailable():
            await self._app(scope, receive, send)
        answer = Response(b"".join(parts), start["status"])
        answer.raw_headers = list(start["headers"])
        return answer


async def _malformed(request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    told = "; ".join(f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults)
    return _problem(request, Problem(400, "bad_request", "That cannot be understood", told[:1000]))


async def _refused(request: Request, error: Exception) -> Response:
    """Say as a problem what the framework itself refuses: a body that is no text, an address that no route can be."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == not_found().status:
        return _problem(request, not_found())
    return _problem(request, Problem(status, "bad_request", "That cannot be understood"))


async def _raised(request: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        return _problem(request, error)
    if isinstance(error, LastAdminError):
        return _problem(request, Problem(409, "last_admin", "The last Admin", str(error)))
    if isinstance(error, MissingError):
        return _problem(request, not_found())
    if isinstance(error, ValueError) and type(error) is ValueError:
        return _problem(request, Problem(400, "bad_request", "That cannot be done", str(error)))
    raise error


def _problem(request: Request, problem: Problem) -> Response:
    outer = request.scope.get("kaimon_request", request)
    outer.scope["kaimon_code"] = problem.code
    body = json.dumps(problem.body(request.scope["kaimon_request_id"]))
    return Response(body, problem.status, dict(problem.headers), PROBLEM_TYPE)


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix("/api/v1")


def _origin(request: Request) -> str | None:
    return request.client.host if request.client else None


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise Problem(413, "too_large", "Too large", f"Want at most {MAX_BODY_BYTES} bytes.")
    if body and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "not_json", "Not JSON", "Want Content-Type: application/json.")
    return body
