"""`kaimon audit`, as an auditor uses it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import text

from kaimon.cli import audit, tenant, token
from tenancy.database import open_database


@pytest.fixture
def acted(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("SUDO_USER", "jane")
    assert run(tenant.app, "create", "acme").exit_code == 0
    assert run(token.app, "create", "--tenant", "acme", "--max-uses", "2").exit_code == 0
    return run


def spoil(statement: str) -> None:
    with closing(open_database()) as db, db.transaction() as session:
        session.execute(text(statement))


def test_acts_are_listed_with_who_did_them(acted: Callable[..., Result]) -> None:
    lines = [line.split("  ") for line in acted(audit.app, "list", "--tenant", "acme").stdout.splitlines()]
    assert [(line[0], line[2], line[3]) for line in lines] == [
        ("1", "login:jane", "tenant.create"),
        ("2", "login:jane", "token.create"),
    ]
    assert lines[1][5] == "expires_at=None max_uses=2"


def test_a_whole_chain_verifies_and_says_how_far_it_is_signed(acted: Callable[..., Result]) -> None:
    assert acted(audit.app, "verify").stdout == "acme: 2 records in order, none is signed\n"
    assert acted(audit.app, "sign").stdout == "1 heads signed\n"
    assert acted(audit.app, "sign").stdout == "0 heads signed\n"
    acted(token.app, "create", "--tenant", "acme")
    assert acted(audit.app, "verify").stdout == "acme: 3 records in order, signed up to 2\n"


def test_verify_names_the_first_bad_record_and_fails(acted: Callable[..., Result]) -> None:
    spoil("UPDATE audit_records SET body = replace(body, 'token.create', 'token.revoke') WHERE seq = 2")
    found = acted(audit.app, "verify", "--tenant", "acme")
    assert found.exit_code == 1
    assert found.stderr == "error: chain acme, record 2: its contents are not those of its digest\n"


def test_a_chain_that_is_gone_from_the_database_is_missed_by_its_signed_head(acted: Callable[..., Result]) -> None:
    acted(audit.app, "sign")
    spoil("DELETE FROM audit_records")
    spoil("DELETE FROM audit_heads")
    found = acted(audit.app, "verify")
    assert found.exit_code == 1
    assert "chain acme, record 1: it is missing: a signed head of" in found.stderr


def test_a_signed_head_is_held_against_the_key_that_the_auditor_kept(
    acted: Callable[..., Result], home: Path, tmp_path: Path
) -> None:
    acted(audit.app, "sign")
    kept = tmp_path / "audit.pem"
    assert acted(audit.app, "key", "--out", str(kept)).exit_code == 0
    assert acted(audit.app, "verify", "--public-key", str(kept)).exit_code == 0
    # Whoever has the machine makes a key of their own and signs what they like.
    (home / "keys" / "audit.key").unlink()
    for head in (home / "audit" / "heads" / "acme").iterdir():
        head.unlink()
    acted(audit.app, "sign")
    assert acted(audit.app, "verify").exit_code == 0
    found = acted(audit.app, "verify", "--public-key", str(kept))
    assert found.exit_code == 1
    assert "signed heads: heads/acme/000000000002.json: not signed by this key" in found.stderr
