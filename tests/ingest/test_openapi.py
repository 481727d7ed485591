"""Requests made from the served document, right and wrong ones: every answer is one that the document promises."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import httpx
import hypothesis
import jsonschema_rs
import pytest
import schemathesis
import zstandard
from schemathesis import GenerationMode, checks

from tenancy.database import Database
from tenancy.enrollment import create_token
from tenancy.tenants import create_tenant

MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
PATHS = ["/healthz", "/readyz", "/metrics", "/v1/batches", "/v1/enroll"]


def bytes_of(value: Any) -> bytes:
    """Let a body be what it was made."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


schemathesis.serializer("application/x-ndjson", "application/vnd.apache.arrow.stream")(
    lambda _context, value: bytes_of(value)
)


@pytest.fixture(scope="module")
def document(server: Any) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, Any]:
    """Return what the served document describes, by path."""
    return operations_of(document)


@pytest.fixture(scope="module")
def generated(server: Any, database: Database) -> Any:
    """A host of a tenant that enrolls, and sends, whatever comes out."""
    create_tenant(database, "generated", subscription="active")
    return server.enroll(database, "generated")


def operations_of(document: dict[str, Any]) -> dict[str, Any]:
    found = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]
    return {operation.path: operation for operation in found}


def each_case(operation: Any, mode: GenerationMode, most: int, take: Callable[[Any], None]) -> None:
    """Call `take` with cases that keep to the document, or that do not; the same ones every time."""

    @hypothesis.settings(
        max_examples=most,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def taking(case: Any) -> None:
        take(case)

    taking()


def ask(
    server: Any, operation: Any, mode: GenerationMode, headers: Callable[[Any], dict[str, str]] = lambda _: {}
) -> set[int]:
    """Ask in every way that the document lets one think of; return the statuses that came."""
    statuses = set()

    def take(case: Any) -> None:
        answer = case.call(
            base_url=server.url, headers=headers(case), verify=str(server.home / "tls" / "ca.pem"), timeout=60
        )
        case.validate_response(answer, checks=CHECKS)
        statuses.add(answer.status_code)

    each_case(operation, mode, 40, take)
    return statuses


def test_the_document_names_every_path_that_is_asked_here(operations: dict[str, Any]) -> None:
    assert set(operations) == set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_whatever_a_stranger_asks_the_answer_is_as_documented(
    server: Any, operations: dict[str, Any], path: str
) -> None:
    statuses = ask(server, operations[path], GenerationMode.POSITIVE)
    if not path.startswith("/v1/"):
        # There is nothing to get wrong about them.
        assert statuses == {200}
        return
    statuses |= ask(server, operations[path], GenerationMode.NEGATIVE)
    assert statuses <= {400, 401, 413, 415, 429}


@pytest.mark.parametrize("mode", MODES)
def test_whatever_bytes_a_known_host_sends_the_answer_is_as_documented(
    server: Any, operations: dict[str, Any], generated: Any, mode: GenerationMode
) -> None:
    def known(case: Any) -> dict[str, str]:
        case.body = bytes_of(case.body)
        digest = base64.b64encode(hashlib.sha256(case.body).digest()).decode()
        return {
            "Authorization": f"Bearer {generated.credential}",
            "Content-Encoding": "zstd",
            "Content-Digest": f"sha-256=:{digest}:",
        }

    assert 400 in ask(server, operations["/v1/batches"], mode, known)


@pytest.mark.parametrize("mode", MODES)
def test_whatever_a_newcomer_says_of_itself_the_answer_is_as_documented(
    server: Any, operations: dict[str, Any], generated: Any, database: Database, mode: GenerationMode
) -> None:
    _, token = create_token(database, generated.tenant)
    statuses = ask(server, operations["/v1/enroll"], mode, lambda _: {"Authorization": f"Bearer {token}"})
    assert (201 if mode is GenerationMode.POSITIVE else 400) in statuses


def lines_of(document: dict[str, Any]) -> Any:
    """Return an operation whose body is a batch before it becomes lines: what the schemas of its parts let through."""
    reference = "#/components/schemas/{}".format
    schema = {
        "type": "object",
        "required": ["header", "events"],
        "properties": {
            "header": {"$ref": reference("BatchHeader")},
            "events": {"type": "array", "items": {"$ref": reference("Event")}, "minItems": 1, "maxItems": 4},
        },
    }
    path = {"post": {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}}
    path["post"]["responses"] = {"200": {"description": ""}}  # type: ignore[dict-item]
    return operations_of(document | {"paths": {"/lines": path}})["/lines"]


def judge(document: dict[str, Any], name: str) -> Callable[[Any], bool]:
    """Return what says whether a value is such a thing by its schema, to which 1.0 is an integer, and to us is not."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    validator = jsonschema_rs.Draft202012Validator(schema)
    return lambda value: validator.is_valid(value) and "." not in re.sub(r'"(\\.|[^"])*"', "", json.dumps(value))


def whole(value: Any) -> Any:
    """Write as integers the numbers that are."""
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize("mode", MODES)
def test_a_line_is_taken_if_the_document_says_so_and_else_rejected(
    server: Any, document: dict[str, Any], generated: Any, wire: ModuleType, mode: GenerationMode
) -> None:
    good_header, good_event = judge(document, "BatchHeader"), judge(document, "Event")
    came: Counter[str] = Counter()

    def send(header: Any, events: list[Any]) -> httpx.Response:
        body = zstandard.compress(wire.lines(header, *events))
        answer: httpx.Response = server.send(generated, body)
        return answer

    def take(case: Any) -> None:
        if not isinstance(case.body, dict) or not isinstance(case.body.get("events"), list):
            return
        made = whole(case.body) if mode is GenerationMode.POSITIVE else case.body
        header, events = made.get("header"), made["events"]
        if isinstance(header, dict) and "agent_id" in header:
            header["agent_id"] = generated.agent_id
        answer = send(header, [])
        came[f"header {answer.status_code}"] += 1
        if answer.status_code != 200:
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_header"), answer.text
            if good_header(header):
                # What a schema cannot say.
                assert "escaping" in answer.json()["detail"] or "there twice" in answer.json()["detail"]
        else:
            assert good_header(header), header
        answer = send(generated.header(), events)
        assert answer.status_code == 200, answer.text
        faults = {fault["line"] - 2: fault["code"] for fault in answer.json()["errors"]}
        for number, event in enumerate(events):
            fault = faults.get(number)
            came[f"event {fault}"] += 1
            if good_event(event):
                assert fault in {None, "bad_text"}, event
            else:
                assert fault in {"bad_value", "malformed_line"}, event

    each_case(lines_of(document), mode, 100, take)
    good = mode is GenerationMode.POSITIVE
    # Each case has one header; how many events is up to the generator, which draws from whatever is imported, too.
    cases = came["header 200"] + came["header 400"]
    assert came["header 200" if good else "header 400"] > cases / 10
    assert came["event None" if good else "event bad_value"] > cases / 10
