"""`kaimon host`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from click.testing import Result

from kaimon.cli import host, tenant
from tenancy.database import open_database
from tenancy.enrollment import create_token, enroll


def test_hosts_are_listed_and_one_is_revoked(run: Callable[..., Result]) -> None:
    run(tenant.app, "create", "acme")
    with closing(open_database()) as db:
        record, token = create_token(db, "acme")
        first, second = (enroll(db, token, name, {}, "boot-1", "0.1.0").agent_id for name in ("web-1", "\u202eweb-2"))
    revoked = run(host.app, "revoke", "--tenant", "acme", first)
    assert (revoked.exit_code, revoked.stdout) == (0, f"host {first} revoked\n")
    assert run(host.app, "revoke", "--tenant", "acme", first).stdout == f"host {first} was revoked before\n"
    listed = {line.split()[0]: line for line in run(host.app, "list", "--tenant", "acme").stdout.splitlines()}
    assert listed[first].split()[2:] == [record.token_id, "revoked", "web-1"]
    assert listed[second].split()[2:] == [record.token_id, "live", "\\u202eweb-2"]
    failed = run(host.app, "revoke", "--tenant", "zeta", second)
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert failed.stderr == f"error: tenant 'zeta' has no host '{second}'\n"
