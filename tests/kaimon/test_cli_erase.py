"""`kaimon tenant erase`: shows first, asks for the id again, and leaves a receipt."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from kaimon.cli import audit, keys, tenant, token


@pytest.fixture
def acme(run: Callable[..., Result], home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("KAIMON_REVOCATION_GRACE_S", "0.01")
    assert run(tenant.app, "create", "acme").exit_code == 0
    assert run(token.app, "create", "--tenant", "acme").exit_code == 0
    (home / "outbox" / "acme" / "day").mkdir(parents=True)
    (home / "outbox" / "acme" / "day" / "2026-03-04-r1.html").write_text("a page")
    return run


def test_without_confirmation_it_says_what_is_held_and_deletes_nothing(acme: Callable[..., Result], home: Path) -> None:
    shown = acme(tenant.app, "erase", "acme")
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0] == "tenant acme (acme), subscription trial"
    assert lines[1].split() == ["outbox", "1", "objects", "6", "bytes"]
    assert ["control/enrollment_tokens", "1", "rows"] in [line.split() for line in lines]
    assert lines[-1].endswith("kaimon tenant erase acme --confirm acme")
    assert (home / "outbox" / "acme" / "day" / "2026-03-04-r1.html").exists()
    assert acme(tenant.app, "subscription", "acme").stdout.startswith("tenant acme, subscription trial")


def test_another_id_as_confirmation_deletes_nothing(acme: Callable[..., Result], home: Path) -> None:
    refused = acme(tenant.app, "erase", "acme", "--confirm", "acne")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "nothing was deleted" in refused.stderr
    assert (home / "outbox" / "acme").exists()


def test_an_erased_tenant_leaves_a_receipt_that_openssl_verifies(
    acme: Callable[..., Result], home: Path, tmp_path: Path
) -> None:
    erased = acme(tenant.app, "erase", "acme", "--confirm", "acme")
    assert erased.exit_code == 0, erased.stderr
    assert erased.stdout.startswith("tenant acme erased; receipt receipts/acme/ers_")
    assert not (home / "outbox" / "acme").exists()
    assert acme(keys.app, "receipts", "--out", str(tmp_path / "key.pem")).exit_code == 0
    command = acme(tenant.app, "receipt", "acme", "--out", str(tmp_path / "acme.json")).stdout.split()
    command[command.index("KEY.pem")] = str(tmp_path / "key.pem")
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert acme(audit.app, "verify").exit_code == 0
    again = acme(tenant.app, "erase", "acme")
    assert again.exit_code == 2
    assert "is erased" in again.stderr


def test_a_tenant_that_is_not_there_is_said_in_a_line(acme: Callable[..., Result]) -> None:
    for arguments in (("erase", "zeta"), ("erase", "zeta", "--confirm", "zeta"), ("receipt", "acme", "--out", "x")):
        failed = acme(tenant.app, *arguments)
        assert (failed.exit_code, failed.stderr.count("\n")) == (2, 1)
