"""`kaimon apikey`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from kaimon.cli.apikey import app
from kaimon.cli.tenant import app as tenant
from tenancy.tokens import parse


@pytest.fixture(autouse=True)
def acme(run: Callable[..., Result]) -> None:
    assert run(tenant, "create", "acme").exit_code == 0


def test_a_key_is_alone_on_stdout_listed_without_its_secret_and_revoked(run: Callable[..., Result]) -> None:
    made = run(app, "create", "--tenant", "acme", "--scope", "read:*", "--label", "wiki \x1b[31m")
    assert made.exit_code == 0
    key = made.stdout.removesuffix("\n")
    assert parse(key, "api") == key
    listed = run(app, "list", "--tenant", "acme").stdout
    assert key[8:-4] not in listed
    assert "\x1b" not in listed
    assert " live " in listed
    assert run(app, "revoke", "--tenant", "acme", listed.split()[0]).exit_code == 0
    assert " revoked " in run(app, "list", "--tenant", "acme").stdout


def test_a_key_is_written_to_a_new_private_file_and_nowhere_else(run: Callable[..., Result], tmp_path: Path) -> None:
    made = run(app, "create", "--tenant", "acme", "--scope", "read:hosts", "--out", str(tmp_path / "key"))
    assert made.exit_code == 0
    assert "kmn_api_" not in made.output
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    parse((tmp_path / "key").read_text().removesuffix("\n"), "api")


def test_a_key_that_may_do_nothing_known_is_not_made(run: Callable[..., Result], tmp_path: Path) -> None:
    made = run(app, "create", "--tenant", "acme", "--scope", "read:all", "--out", str(tmp_path / "key"))
    assert made.exit_code != 0
    assert not (tmp_path / "key").exists()
    assert run(app, "list", "--tenant", "acme").stdout == ""
