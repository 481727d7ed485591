"""Each promise of the security policy names what makes it true, and that exists; customers read the same ones."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from dashboards.portal.policy import PROMISES

TESTS = Path(__file__).parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (TESTS.parent / "docs" / "security-policy.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| promise")
]
NAMED = re.compile(r"`([a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def test_every_promise_names_what_makes_it_true_or_says_why_nothing_does() -> None:
    assert len(ROWS) > 25
    assert all(len(row) == 3 for row in ROWS)
    assert not [row[0] for row in ROWS if not NAMED.search(row[1]) and not row[2]]


def test_every_test_that_a_promise_names_exists() -> None:
    named = [found for row in ROWS for found in NAMED.findall(row[1])]
    assert sum(row[1].count("::") for row in ROWS) == len(named), "a name that does not look like a test's"
    functions: dict[str, set[str]] = {}
    for file, _ in named:
        tree = ast.parse((TESTS / file).read_text())
        functions[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not [f"{file}::{name}" for file, name in named if name not in functions[file]]


def test_every_setting_that_a_promise_names_exists() -> None:
    documented = (TESTS.parent / "docs" / "settings.md").read_text()
    settings = {name for row in ROWS for name in re.findall(r"`(KAIMON_[A-Z0-9_]+)`", " ".join(row))}
    assert settings
    assert not [name for name in settings if f"`{name}`" not in documented]


def test_customers_read_every_promise_in_the_portal_and_no_limit_is_kept_from_them() -> None:
    assert [one.row for one in PROMISES] == [row[0] for row in ROWS]
    assert [one.row for one in PROMISES if not one.text or bool(one.limit) != bool(row_of(one.row)[2])] == []


def row_of(promise: str) -> list[str]:
    return next(row for row in ROWS if row[0] == promise)
