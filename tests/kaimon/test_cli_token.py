"""`kaimon token`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result

from kaimon.cli.tenant import app as tenant
from kaimon.cli.token import app
from tenancy.credentials import Authenticator
from tenancy.database import Database, open_database
from tenancy.enrollment import enroll, list_tokens
from tenancy.tokens import parse


@pytest.fixture
def db(run: Callable[..., Result]) -> Database:
    assert run(tenant, "create", "acme").exit_code == 0
    database = open_database()
    yield database
    database.close()


def test_a_token_is_alone_on_stdout_and_enrolls(run: Callable[..., Result], db: Database) -> None:
    made = run(app, "create", "--tenant", "acme")
    assert made.exit_code == 0
    assert made.stderr == ""
    token = made.stdout.removesuffix("\n")
    assert parse(token, "enr") == token
    assert enroll(db, token, "web-1", {}, "boot", "0.1.0").tenant_id == "acme"


def test_a_token_is_written_to_a_new_private_file_and_nowhere_else(
    run: Callable[..., Result], db: Database, tmp_path: Path
) -> None:
    made = run(app, "create", "--tenant", "acme", "--out", str(tmp_path / "token"))
    assert made.exit_code == 0
    assert "kmn_enr_" not in made.output
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    parse((tmp_path / "token").read_text().removesuffix("\n"), "enr")


def test_no_token_is_made_that_nobody_could_read(run: Callable[..., Result], db: Database, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    for out in (tmp_path / "there", tmp_path / "no" / "such" / "folder"):
        failed = run(app, "create", "--tenant", "acme", "--out", str(out))
        assert failed.exit_code == 2
        assert "cannot make" in failed.stderr
    assert (tmp_path / "there").read_text() == "mine"
    assert list_tokens(db, "acme") == []


def test_no_file_is_left_where_no_token_could_be_made(run: Callable[..., Result], db: Database, tmp_path: Path) -> None:
    failed = run(app, "create", "--tenant", "nobody", "--out", str(tmp_path / "token"))
    assert (failed.exit_code, "no tenant 'nobody'" in failed.stderr) == (2, True)
    assert not (tmp_path / "token").exists()


def test_limits_are_taken_and_shown(run: Callable[..., Result], db: Database) -> None:
    limits = ("--label", "fleet", "--expires-in-days", "1.5", "--max-uses", "3")
    token = run(app, "create", "--tenant", "acme", *limits).stdout.strip()
    (record,) = list_tokens(db, "acme")
    assert (record.label, record.max_uses) == ("fleet", 3)
    assert record.expires_at - record.created_at == timedelta(days=1.5)
    enroll(db, token, "web-1", {}, "boot", "0.1.0")
    (line,) = run(app, "list", "--tenant", "acme").stdout.splitlines()
    assert line.startswith(f"{record.token_id}  kmn_enr_…{token[-4:]}  live ")
    assert " 1/3 " in line
    assert f"expires {record.expires_at:%Y-%m-%dT%H:%M:%SZ}" in line
    assert f"used {datetime.now(UTC):%Y-%m-%d}" in line
    assert line.endswith("  fleet")
    assert token not in line


@pytest.mark.parametrize("limits", [("--max-uses", "0"), ("--expires-in-days", "-1"), ("--expires-in-days", "nan")])
def test_limits_that_nothing_could_meet_are_a_line_on_stderr(
    run: Callable[..., Result], db: Database, limits: tuple[str, str]
) -> None:
    failed = run(app, "create", "--tenant", "acme", *limits)
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert failed.stderr


def test_a_list_says_which_tokens_still_enroll(run: Callable[..., Result], db: Database) -> None:
    run(app, "create", "--tenant", "acme", "--label", "live")
    spent = run(app, "create", "--tenant", "acme", "--label", "spent", "--max-uses", "1").stdout.strip()
    enroll(db, spent, "web-1", {}, "boot", "0.1.0")
    run(app, "create", "--tenant", "acme", "--label", "old", "--expires-in-days", "0.0000001")
    run(app, "create", "--tenant", "acme", "--label", "gone")
    gone = next(record for record in list_tokens(db, "acme") if record.label == "gone")
    run(app, "revoke", "--tenant", "acme", gone.token_id)
    lines = run(app, "list", "--tenant", "acme").stdout.splitlines()
    states = {line.rsplit("  ", 1)[1]: re.search(r"live|used up|expired|revoked", line).group() for line in lines}
    assert states == {"live": "live", "spent": "used up", "old": "expired", "gone": "revoked"}


def test_revoking_says_how_many_credentials_ended(run: Callable[..., Result], db: Database) -> None:
    token = run(app, "create", "--tenant", "acme").stdout.strip()
    credential = enroll(db, token, "web-1", {}, "boot", "0.1.0").credential
    authenticator = Authenticator(db)
    assert authenticator.authenticate(credential, "192.0.2.1")
    (record,) = list_tokens(db, "acme")
    revoked = run(app, "revoke", "--tenant", "acme", record.token_id)
    assert revoked.exit_code == 0
    assert revoked.stdout == f"token {record.token_id} revoked, and 1 host credential with it\n"
    authenticator.poll()
    assert authenticator.authenticate_cached(credential) is None


def test_a_token_given_where_its_id_belongs_is_not_repeated(run: Callable[..., Result], db: Database) -> None:
    token = run(app, "create", "--tenant", "acme").stdout.strip()
    for arguments in (("--tenant", "acme", token), ("--tenant", token, "tok_1")):
        failed = run(app, "revoke", *arguments)
        assert failed.exit_code == 2
        assert token[8:20] not in failed.output
        assert "[redacted]" in failed.stderr
