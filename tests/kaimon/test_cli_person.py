"""`kaimon person`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import Result

from kaimon.cli import audit, person, tenant


def test_a_name_that_is_forgotten_shows_nowhere_and_the_chain_verifies(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "jane")
    run(tenant.app, "create", "acme")
    monkeypatch.setenv("SUDO_USER", "omar")
    people = dict(line.split("  ")[::-1] for line in run(person.app, "list").stdout.splitlines())
    assert set(people) == {"login:jane", "login:omar"}
    jane = people["login:jane"]
    forgotten = run(person.app, "forget", jane)
    assert (forgotten.exit_code, forgotten.stdout) == (0, f"the name of {jane} is gone\n")
    assert "jane" not in run(person.app, "list").stdout
    listed = run(audit.app, "list", "--tenant", "acme").stdout
    assert "jane" not in listed
    assert jane in listed
    assert run(audit.app, "verify").exit_code == 0
    failed = run(person.app, "forget", "prs_nobody")
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert failed.stderr == "error: there is no person 'prs_nobody'\n"
