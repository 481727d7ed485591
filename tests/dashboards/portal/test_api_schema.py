"""Requests made from the API's document, right and wrong ones: every answer is one that the document promises.

As a key that may read (a Member's view), one that may do all (an Admin's), and another tenant's; the portal is one that
allows each key as much as it asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode, checks

from dashboards.portal.api.edge import ROUTES

CHECKS: Final = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
SLOW: Final = {"/events"}
"""Each question starts a process of its own: few of them."""
WHO: Final = {
    "member": ("acme", ("read:*",)),
    "admin": ("acme", ("read:*", "write:*")),
    "stranger": ("bolt", ("read:*", "write:*")),
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, portal_maker: Any) -> Iterator[Any]:
    running = portal_maker(tmp_path_factory.mktemp("wide"), provider=False, KAIMON_API_PER_MINUTE="1000000")
    yield running
    running.close()


@pytest.fixture(scope="module")
def operations(wide: Any) -> dict[tuple[str, str], Any]:
    document = httpx.get(f"{wide.url}/api/v1/openapi.json", verify=wide.trust, trust_env=False, timeout=60).json()
    found = [one.ok() for one in schemathesis.openapi.from_dict(document).get_all_operations()]
    return {(one.method.upper(), one.path): one for one in found}


@pytest.fixture(scope="module")
def keys(wide: Any) -> dict[str, str]:
    return {who: wide.api(tenant, *scopes).headers["authorization"] for who, (tenant, scopes) in WHO.items()}


def ask(wide: Any, operation: Any, mode: GenerationMode, key: str, most: int) -> set[int]:
    """Ask in ways that keep to the document, or do not, the same ones every time; return the statuses that came."""
    statuses = set()

    @hypothesis.settings(
        max_examples=most,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def asking(case: Any) -> None:
        ca = str(wide.home / "tls" / "ca.pem")
        answer = case.call(base_url=f"{wide.url}/api/v1", headers={"Authorization": key}, verify=ca, timeout=60)
        case.validate_response(answer, checks=CHECKS)
        statuses.add(answer.status_code)

    asking()
    return statuses


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_whatever_is_asked_the_answer_is_as_documented(
    wide: Any, operations: dict[tuple[str, str], Any], keys: dict[str, str], route: Any, who: str
) -> None:
    operation = operations[route.method, route.path]
    most = 2 if route.path in SLOW else 8
    right = ask(wide, operation, GenerationMode.POSITIVE, keys[who], most)
    statuses = right | ask(wide, operation, GenerationMode.NEGATIVE, keys[who], most)
    allowed = route.scope is None or route.scope.startswith("read:") or who != "member"
    if not allowed:
        # Some of what is made leaves the key out.
        assert {403} <= statuses <= {401, 403}
    elif "{" not in route.path and route.method == "GET":
        assert 200 in right
    assert 500 not in statuses
    assert 503 not in statuses


def test_every_route_is_asked(operations: dict[tuple[str, str], Any]) -> None:
    assert set(operations) == {(route.method, route.path) for route in ROUTES}
