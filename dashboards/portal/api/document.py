"""The API's OpenAPI document: what the framework knows of the routes, and what every one of them shares."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from dashboards.portal.api.call import ApiRoute
from dashboards.portal.api.models import Problem
from kaimon.base.problems import PROBLEM_TYPE

_EVERYWHERE: Final = (400, 401, 403, 404, 410, 413, 422, 429, 500, 503)
_CHANGES: Final = (409, 412, 415)
_HEADERS: Final = ("RateLimit", "RateLimit-Policy", "X-Request-Id")
_MEANING: Final = {
    400: "Malformed",
    401: "No key, or an unknown, expired or revoked one",
    403: "The key's scopes do not allow it",
    404: "Not there, or another tenant's",
    409: "It cannot be done now",
    410: "The page before is gone",
    412: "It has changed since it was read",
    413: "Too large",
    415: "Not JSON",
    422: "A query beyond its limits, or an Idempotency-Key of another request",
    429: "Too many requests; see Retry-After",
    500: "Our fault",
    503: "Try again; see Retry-After",
}
DESCRIPTION: Final = """A tenant's hosts, tokens, events, findings, summaries, people and audit chain, for
its programs.

The key says which tenant is meant. `read:…` and `write:…` scopes say what of it may be used.
Unknown is null, never 0."""


def document(app: FastAPI, routes: tuple[ApiRoute, ...]) -> dict[str, Any]:
    """Return the document, OpenAPI 3.1; it is made anew from the routes at each start."""
    made = get_openapi(title="kaimon", version="1", openapi_version="3.1.0", description=DESCRIPTION, routes=app.routes)
    components = made["components"]
    for ours in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(ours, None)
    components["schemas"]["Problem"] = Problem.model_json_schema()
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "kmn_api_…"}}
    made["security"] = [{"key": []}]
    made["servers"] = [{"url": "/api/v1"}]
    for route in routes:
        operation = made["paths"][route.path][route.method.lower()]
        operation["operationId"] = route.answer.__name__
        operation["x-kaimon-scope"] = route.scope
        answers = operation["responses"]
        answers.pop("422", None)
        for answer in answers.values():
            answer["headers"] = _headers(route)
        for status in _EVERYWHERE + (() if route.method == "GET" else _CHANGES):
            schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
            answers[str(status)] = {"description": _MEANING[status], "content": {PROBLEM_TYPE: schema}}
        operation.setdefault("parameters", []).extend(_parameters(route))
    return made


def _headers(route: ApiRoute) -> dict[str, Any]:
    names = list(_HEADERS) + (["Idempotent-Replay"] if route.method == "POST" else [])
    return {name: {"schema": {"type": "string"}} for name in names}


def _parameters(route: ApiRoute) -> list[dict[str, Any]]:
    text = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
    found = []
    if route.method == "POST":
        told = "Sent again with the same key within 24 hours, the request acts no second time."
        found.append({"name": "Idempotency-Key", "in": "header", "schema": text, "description": told})
    if route.conditional:
        told = "Only if it is still as its ETag says."
        found.append({"name": "If-Match", "in": "header", "schema": {"type": "string"}, "description": told})
    return found
