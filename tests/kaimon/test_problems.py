"""Problem documents."""

from __future__ import annotations

import json

import pytest

from kaimon.base.problems import PROBLEM_TYPE, Problem


def test_a_problem_is_the_documented_document() -> None:
    problem = Problem(401, "unauthorized", "Unknown or revoked token")
    assert problem.body("req_1") == {
        "type": "urn:kaimon:problem:unauthorized",
        "title": "Unknown or revoked token",
        "status": 401,
        "code": "unauthorized",
        "request_id": "req_1",
    }
    assert PROBLEM_TYPE == "application/problem+json"


def test_details_and_extras_are_told_where_there_are_any() -> None:
    problem = Problem(413, "too_large", "Too large", "9 MiB", headers={"Retry-After": "1"}, extra={"limit_bytes": 8})
    body = problem.body("req_1")
    assert (body["detail"], body["limit_bytes"]) == ("9 MiB", 8)
    assert "Retry-After" not in json.dumps(body)


def test_a_problem_can_be_raised_and_says_what_it_is() -> None:
    with pytest.raises(Problem, match="too_large") as caught:
        raise Problem(413, "too_large", "Too large")
    assert caught.value.status == 413


def test_problems_share_nothing_with_each_other() -> None:
    first = Problem(400, "a", "A")
    first.headers["X"] = "1"
    first.extra["x"] = 1
    second = Problem(400, "a", "A")
    assert (second.headers, second.extra) == ({}, {})
    assert first != second
    assert len({first, second}) == 2
