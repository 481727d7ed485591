"""The OpenAPI 3.1 document: written from the very types and limits that requests are checked with."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from ingest.batch import ARROW, NDJSON
from ingest.enroll import Enrollment
from ingest.events import LINE_COLUMNS, RANGES
from ingest.header import BatchHeader
from lake.columns import Column

_REF: Final = "#/components/schemas/{name}"
_PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457; programs branch on `code`",
    "required": ["type", "title", "status", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "detail": {"type": "string"},
    },
}
_ANSWER: Final = {
    "type": "object",
    "description": "The batch is durable. `errors` names the first of its rejected lines; the header is line 1",
    "required": ["accepted", "rejected", "duplicate", "errors"],
    "properties": {
        "accepted": {"type": "integer"},
        "rejected": {"type": "integer"},
        "duplicate": {"type": "boolean", "description": "It was here before, as far as this process remembers"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["line", "code", "detail"],
                "properties": {
                    "line": {"type": "integer"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}
_ENROLLED: Final = {
    "type": "object",
    "required": ["agent_id", "credential", "tenant"],
    "properties": {
        "agent_id": {"type": "string"},
        "credential": {"type": "string", "description": "Shown this once"},
        "tenant": {"type": "string"},
    },
}
_REFUSALS: Final = {
    400: "Malformed: malformed_body, bad_header, bad_digest, digest_mismatch, bad_enrollment",
    401: "unauthorized: unknown, revoked, expired or used up",
    403: "subscription_lapsed, host_limit, agent_mismatch",
    404: "not_found",
    413: "too_large, compressed or decompressed; nothing was stored",
    415: "unsupported_media_type",
    429: "tenant_busy, daily_limit, too_many_unknown_tokens; see Retry-After",
    503: "Cannot be taken now, and may or may not become durable: send the same bytes again after Retry-After",
}


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _REFUSALS[status], "content": schema} for status in statuses}


def _json(description: str, name: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": _REF.format(name=name)}}},
    }


_BATCH_BODY: Final = {
    "required": True,
    "description": (
        "One zstd frame of lines that each end in a newline: a `BatchHeader`, then an `Event` a line. The "
        "Content-Digest is of the body as sent. The other form has the same columns as an Arrow stream, times as "
        "integers, with the BatchHeader under `kaimon.batch` in the schema's metadata; columns that may be null may be "
        "left out, and texts may be dictionaries (int8, int16 or int32), one a column and whole."
    ),
    "content": {kind: {"schema": {"type": "string", "contentEncoding": "zstd"}} for kind in (NDJSON, ARROW)},
}
_BATCH_HEADERS: Final = [
    {"name": "Content-Encoding", "in": "header", "required": True, "schema": {"const": "zstd"}},
    {
        "name": "Content-Digest",
        "in": "header",
        "required": True,
        "schema": {"type": "string", "pattern": "sha-256=:[A-Za-z0-9+/]{43}=:"},
    },
]

_NOTICE: Final = {
    "Kaimon-Subscription": {
        "description": "Payment is past due: `past_due`, and until when batches are taken all the same",
        "schema": {"type": "string", "pattern": r"past_due(; grace_ends_at=[0-9TZ:-]+)?"},
    }
}

BATCHES_PATH: Final = "/v1/batches"
_BATCHES: Final[dict[str, Any]] = {
    "summary": "Send a batch of events",
    "operationId": "send_batch",
    "security": [{"host": []}],
    "parameters": _BATCH_HEADERS,
    "requestBody": _BATCH_BODY,
    "responses": {
        str(status): answer
        for status, answer in {
            200: _json("Durable", "Answer") | {"headers": _NOTICE},
            **_refusals(400, 401, 403, 413, 415, 429, 503),
        }.items()
    },
}
"""Written out: the route goes past the framework, which therefore cannot describe it."""
ENROLL: Final[dict[str, Any]] = {
    "summary": "Swap an enrollment token for a host's credential",
    "responses": {201: _json("Enrolled", "Enrolled"), **_refusals(400, 401, 403, 413, 415, 429, 503)},
    "openapi_extra": {"security": [{"enrollment": []}], "requestBody": {"required": True, **_json("", "Enrollment")}},
}
HEALTH: Final[dict[str, Any]] = {"summary": "Is the process alive?", "responses": {200: {"description": "Alive"}}}
READY: Final[dict[str, Any]] = {
    "summary": "Can batches be taken?",
    "responses": {200: {"description": "Ready"}, **_refusals(503)},
}
METRICS: Final[dict[str, Any]] = {
    "summary": "Metrics for Prometheus, for those near enough; the others get 404",
    "response_class": PlainTextResponse,
    "responses": {200: {"description": "Text"}, **_refusals(404)},
}


def complete(app: FastAPI) -> None:
    """Make `app` serve its document with our schemas in it."""
    generate = app.openapi
    _, schemas = msgspec.json.schema_components((BatchHeader, Enrollment), ref_template=_REF)
    schemas |= {"Problem": _PROBLEM, "Answer": _ANSWER, "Enrolled": _ENROLLED, "Event": event_schema()}

    def openapi() -> dict[str, Any]:
        document = generate()
        document["paths"] = {BATCHES_PATH: {"post": _BATCHES}} | document["paths"]
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(schemas)
        components["securitySchemes"] = {
            "host": {"type": "http", "scheme": "bearer", "bearerFormat": "kmn_hst_…"},
            "enrollment": {"type": "http", "scheme": "bearer", "bearerFormat": "kmn_enr_…"},
        }
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def event_schema() -> dict[str, Any]:
    """Return the JSON schema of an event's line."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [column.name for column in LINE_COLUMNS if not column.nullable],
        "properties": {column.name: _property(column) for column in LINE_COLUMNS},
    }


def _property(column: Column) -> dict[str, Any]:
    text = column.kind == "string"
    found: dict[str, Any] = {"description": f"{column.meaning}{f' ({column.unit})' if column.unit else ''}"}
    kind = "string" if text else "integer"
    found["type"] = [kind, "null"] if column.nullable else kind
    if column.domain:
        found["enum"] = [*column.domain, None] if column.nullable else list(column.domain)
    if not text:
        limit = 2**31 if column.kind == "int32" else 2**63
        found["minimum"], found["maximum"] = RANGES.get(column.name, (-limit, limit - 1))
    return found
