"""The portal's application: who is asking, may they, and what stands around every answer."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from dashboards.portal import mailed_links, receipts, stripe_webhook
from dashboards.portal.api.edge import Api
from dashboards.portal.call import POLICY, Call, Route, csrf_of, html
from dashboards.portal.oidc import Provider, refused
from dashboards.portal.pages import ROUTES
from dashboards.portal.processor import Processor
from dashboards.portal.scope import scope_for
from dashboards.portal.settings import PortalSettings, StripeSettings
from kaimon.base.access import OK, Access, report
from kaimon.base.acting import Actor, acting_as
from kaimon.base.clock import Clock, utc_now
from kaimon.base.logs import get_logger
from kaimon.base.problems import Problem
from lake.access import access_log
from lake.settings import LakeSettings
from tenancy import sessions
from tenancy.database import Database, open_database
from tenancy.members import LastAdminError, accept, memberships
from tenancy.missing import MissingError
from tenancy.settings import TenancySettings

SESSION: Final = "__Host-kaimon"
LOGIN: Final = "__Host-kaimon-login"
WANTED: Final = "__Host-kaimon-to"
_A_PAGE: Final = re.compile(r"/t/[!-\[\]-~]{1,1000}")
"""Where a login may lead: to a tenant's page here and nowhere else."""
MAX_FORM_BYTES: Final = 64 * 1024
_STATIC: Final = {"/portal.css": "text/css", "/portal.js": "text/javascript"}
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_OWN: Final = ("Content-Security-Policy",)
"""What an answer may say otherwise of itself: a report, which brings its own style, and may do less than a page; or the
page whose forms lead to Stripe."""


class Portal:
    """What requests share."""

    def __init__(self, settings: PortalSettings, db: Database) -> None:
        """Take an open control database."""
        self.settings, self.db = settings, db
        self.lake, self.provider = LakeSettings(home=settings.home), Provider(settings)
        self.processor = Processor(StripeSettings(home=settings.home))
        self.idle = timedelta(minutes=settings.session_idle_minutes)
        self.longest = timedelta(hours=settings.session_hours)

    def person(self, request: Request) -> str | None:
        """Return who is logged in."""
        secret = request.cookies.get(SESSION)
        return None if secret is None else sessions.session_of(self.db, secret, self.idle, self.longest)

    def require_own_page(self, request: Request, form: dict[str, str]) -> None:
        """Refuse a change that does not come from a page of ours.

        Raises:
            Problem: 403.
        """
        expected = csrf_of(request.cookies.get(SESSION, ""))
        genuine = hmac.compare_digest(form.get("csrf", "").encode(), expected.encode())
        if request.headers.get("origin") != self.settings.portal_url or not genuine:
            raise Problem(403, "foreign_form", "Not from a page of ours", "Reload the page and try again.")

    def answer(self, request: Request, route: Route, form: dict[str, str]) -> Response:
        """Answer one request to a tenant's page.

        Raises:
            Problem: 401, 403 or 404; also what the page itself refuses.
        """
        person = self.person(request)
        if person is None:
            if route.method == "GET":
                wanted = f"{quote(request.scope['path'])}?{request.url.query}".removesuffix("?")
                return RedirectResponse(f"/login?{urlencode({'to': wanted})}", status_code=303)
            raise Problem(401, "not_logged_in", "Not logged in", "Log in and try again.")
        scope = scope_for(self.db, person, request.path_params["tenant"])
        if scope is None:
            raise Problem(404, "not_found", "Not found")
        if route.method != "GET":
            self.require_own_page(request, form)
        if route.role == "admin" and scope.role != "admin":
            raise Problem(403, "not_admin", "Only an Admin may do this", "Ask an Admin of your team.")
        name = sessions.name_of(self.db, person) or person
        csrf = csrf_of(request.cookies[SESSION])
        query, now = dict(request.query_params), self.db.clock()
        call = Call(self.db, self.lake, self.settings, scope, name, csrf, query, form, now, self.processor)
        origin = request.client.host if request.client else None
        with acting_as(Actor(person, origin, request.state.request_id)):
            try:
                return route.answer(call)
            except LastAdminError as error:
                raise Problem(409, "last_admin", "The last Admin", str(error)) from error
            except MissingError as error:
                raise Problem(404, "not_found", "Not found") from error
            except ValueError as error:
                raise Problem(400, "bad_request", "That cannot be done", str(error)) from error

    def login(self, request: Request) -> Response:
        """Send the browser to the identity provider; by `?anew=1` people say there anew who they are.

        `?to=` is the page that was wanted: the browser keeps it until it is back.
        """
        secret, attempt = sessions.begin_login(self.db)
        target = self.provider.redirect(attempt, anew="anew" in request.query_params)
        answer = RedirectResponse(target, status_code=303)
        _keep(answer, LOGIN, secret, int(sessions.ATTEMPT_S))
        wanted = request.query_params.get("to", "")
        _keep(answer, WANTED, quote(wanted, safe="") if _A_PAGE.fullmatch(wanted) else "", int(sessions.ATTEMPT_S))
        return answer

    def callback(self, request: Request) -> Response:
        """Take in who came back; a new session under a new id, whatever the browser held before."""
        attempt = sessions.take_attempt(self.db, request.cookies.get(LOGIN, ""))
        if attempt is None:
            raise refused("this login was not begun here, or took too long")
        who = self.provider.identity(attempt, dict(request.query_params))
        try:
            person = sessions.person_for(self.db, who.issuer, who.subject, who.email, verified=who.verified)
        except ValueError as error:
            raise refused(str(error)) from error
        with acting_as(Actor(person, request.client.host if request.client else None, request.state.request_id)):
            if who.email is not None and who.verified:
                accept(self.db, person, who.email)
            sessions.purge_sessions(self.db, self.idle, self.longest)
            if (old := request.cookies.get(SESSION)) is not None:
                sessions.end_session(self.db, old)
            secret = sessions.start_session(self.db, person)
        wanted = unquote(request.cookies.get(WANTED, ""))
        answer = RedirectResponse(wanted if _A_PAGE.fullmatch(wanted) else "/", status_code=303)
        for name in (LOGIN, WANTED):
            answer.delete_cookie(name, path="/", secure=True, httponly=True)
        _keep(answer, SESSION, secret, int(self.longest.total_seconds()))
        return answer

    def home(self, request: Request) -> Response:
        """Send whoever is logged in to their tenant; let them choose where there are several."""
        person = self.person(request)
        if person is None:
            return html("welcome.html", ready=self.settings.oidc_issuer is not None)
        mine = list(memberships(self.db, person))
        if len(mine) == 1:
            return RedirectResponse(f"/t/{mine[0]}/", status_code=303)
        csrf, name = csrf_of(request.cookies[SESSION]), sessions.name_of(self.db, person) or person
        return html("tenants.html", tenants=mine, name=name, csrf=csrf)

    def logout(self, request: Request, form: dict[str, str]) -> Response:
        """End the session, here and everywhere."""
        self.require_own_page(request, form)
        person = self.person(request)
        if person is not None:
            with acting_as(Actor(person, None, request.state.request_id)):
                sessions.end_session(self.db, request.cookies[SESSION])
        answer = RedirectResponse("/", status_code=303)
        answer.delete_cookie(SESSION, path="/", secure=True, httponly=True)
        return answer


def create_app(settings: PortalSettings | None = None, clock: Clock = utc_now) -> FastAPI:
    """Return the application; its lifespan opens the control database and writes the access log."""
    settings = settings or PortalSettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        db = open_database(TenancySettings(home=settings.home), clock)
        try:
            with access_log("portal", LakeSettings(home=settings.home)):
                app.state.portal = Portal(settings, db)
                yield
        finally:
            db.close()

    app = FastAPI(title="kaimon portal", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    static = {path: (Path(__file__).with_name("static") / path[1:]).read_bytes() for path in _STATIC}

    async def serve(request: Request) -> Response:
        began, path, code = time.perf_counter(), request.scope["path"], OK
        request.state.request_id = f"req_{secrets.token_hex(8)}"
        try:
            answer = await _answered(request, app.state.portal, static)
        except Problem as problem:
            code = problem.code
            if path == stripe_webhook.PATH:
                answer = stripe_webhook.refusal(problem, request.state.request_id)
            else:
                answer = html("problem.html", problem.status, problem=problem)
        except Exception:  # noqa: BLE001 - the edge: logged here, once
            get_logger(__name__).exception("page_failed", request_id=request.state.request_id)
            broken = Problem(500, "internal", "Something went wrong", f"Tell us {request.state.request_id}.")
            code, answer = broken.code, html("problem.html", 500, problem=broken)
        route = request.scope.get("kaimon_route", "other")
        report(
            Access(
                at=utc_now(),
                kind="call",
                what=f"portal {request.method} {route}",
                outcome=code,
                tenant=request.scope.get("kaimon_tenant"),
                who=request.scope.get("kaimon_person"),
                origin=request.client.host if request.client else None,
                request_id=request.state.request_id,
                status=answer.status_code,
                took_ms=round((time.perf_counter() - began) * 1000, 1),
            )
        )
        answer.headers.update(_HEADERS | {name: answer.headers[name] for name in _OWN if name in answer.headers})
        if path in static:
            answer.headers["Cache-Control"] = "max-age=3600"
        return answer

    shared = lambda: (app.state.portal.db, app.state.portal.lake)  # noqa: E731 - they are there once it has started
    api = Api(shared, settings.api_per_minute, settings.api_queries)
    app.mount("/api/v1", api)
    app.add_route("/{path:path}", serve, methods=["GET", "POST"])
    nowhere = app.router.default

    async def elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
        """Take addresses that no pattern matches, such as one with a line break: they too are told as all others."""
        if scope["type"] != "http":
            await nowhere(scope, receive, send)
        elif scope["path"].startswith("/api/v1/"):
            await api(scope, receive, send)
        else:
            answer = await serve(Request(scope, receive))
            await answer(scope, receive, send)

    app.router.default = elsewhere
    return app


async def _answered(request: Request, portal: Portal, static: dict[str, bytes]) -> Response:
    path, method = request.scope["path"], request.method
    if (method, path) == ("POST", stripe_webhook.PATH):
        request.scope["kaimon_route"] = path
        return await stripe_webhook.answer(portal.db, portal.processor, request)
    form = await _form(request) if method == "POST" else {}
    if method == "GET" and path in static:
        return Response(static[path], media_type=_STATIC[path])
    if path in mailed_links.PAGES:
        request.scope["kaimon_route"] = path
        return await run_in_threadpool(mailed_links.answer, portal.db, request)
    if (method, path) == ("GET", receipts.PATH):
        request.scope["kaimon_route"] = path
        return await run_in_threadpool(receipts.answer, portal.db, portal.lake, request)
    plain: dict[tuple[str, str], Callable[[Request], Response]] = {
        ("GET", "/"): portal.home,
        ("GET", "/login"): portal.login,
        ("GET", "/callback"): portal.callback,
        ("POST", "/logout"): lambda asked: portal.logout(asked, form),
    }
    if (method, path) in plain:
        request.scope["kaimon_route"] = path
        return await run_in_threadpool(plain[method, path], request)
    first, _, rest = path.removeprefix("/t/").partition("/")
    for route in ROUTES:
        if path.startswith("/t/") and (route.method, route.path) == (method, rest):
            request.scope["path_params"] = {"tenant": first}
            request.scope["kaimon_route"] = f"/t/…/{route.path}"

            def answer(route: Route = route) -> Response:
                person = portal.person(request)
                request.scope["kaimon_person"] = person
                if person is not None and first in memberships(portal.db, person):
                    request.scope["kaimon_tenant"] = first
                return portal.answer(request, route, form)

            return await run_in_threadpool(answer)
    raise Problem(404, "not_found", "Not found")


async def _form(request: Request) -> dict[str, str]:
    """Read a form, bounded.

    Raises:
        Problem: 413 too large; 400 not one.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise Problem(413, "too_large", "Too large")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError as error:
        raise Problem(400, "bad_form", "Not a form") from error


def _keep(answer: Response, name: str, secret: str, seconds: int) -> None:
    # `__Host-`: only over TLS, only this host, only by this host. Lax: the provider's redirect must bring it along.
    answer.set_cookie(name, secret, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")
