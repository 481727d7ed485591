"""`kaimon tenant`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from kaimon.cli.tenant import app
from tenancy.keys import ensure_key


def test_a_tenant_that_was_made_is_listed(run: Callable[..., Result], home: Path) -> None:
    made = run(app, "create", "acme", "--name", "Acme, Inc.", "--subscription", "active")
    assert (made.exit_code, made.stdout) == (0, "tenant acme made, subscription active\n")
    assert run(app, "create", "zeta-long-name").exit_code == 0
    first, second = run(app, "list").stdout.splitlines()
    assert first.split()[:2] == ["acme", "active"]
    assert first.endswith("  Acme, Inc.")
    assert second.split()[:2] == ["zeta-long-name", "trial"]
    assert (home / "control.db").stat().st_mode & 0o777 == 0o600


def test_an_empty_list_is_empty(run: Callable[..., Result]) -> None:
    listed = run(app, "list")
    assert (listed.exit_code, listed.output) == (0, "")


def test_a_mistake_is_one_clear_line_on_stderr_and_exit_code_2(run: Callable[..., Result]) -> None:
    assert run(app, "create", "acme").exit_code == 0
    for arguments, complaint in (
        (("Acme",), "tenant id 'Acme'"),
        (("acme",), "tenant 'acme' exists already"),
        (("zeta", "--subscription", "gratis"), "want one of trial"),
    ):
        failed = run(app, "create", *arguments)
        assert failed.exit_code == 2
        assert failed.stdout == ""
        assert failed.stderr.startswith("error: ")
        assert complaint in failed.stderr
        assert failed.stderr.count("\n") == 1


def test_a_home_that_cannot_be_made_is_said_in_a_line(run: Callable[..., Result], home: Path) -> None:
    home.write_text("a file, not a folder")
    failed = run(app, "list")
    assert failed.exit_code == 2
    assert failed.stderr.startswith("error: ")


def test_a_key_that_others_can_read_is_said_in_a_line(run: Callable[..., Result], home: Path) -> None:
    from kaimon.cli.token import app as token

    run(app, "create", "acme")
    ensure_key(home / "keys" / "token.key")
    (home / "keys" / "token.key").chmod(0o644)
    failed = run(token, "create", "--tenant", "acme")
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert "want 0600" in failed.stderr


def test_a_subscription_is_shown_with_its_dates_use_and_limits(run: Callable[..., Result]) -> None:
    run(app, "create", "acme", "--trial-ends", "2099-12-31")
    shown = run(app, "subscription", "acme").stdout.splitlines()
    assert shown == [
        "tenant acme, subscription trial",
        "trial ends    2099-12-31T00:00:00Z",
        "hosts         0 of 50",
        "events today  0 of 50,000,000",
    ]
    changed = run(
        app, "subscription", "acme", "--set", "past_due", "--max-hosts", "3", "--grace-ends", "2099-06-01T12:00+02"
    )
    assert changed.stdout.splitlines() == [
        "tenant acme, subscription past_due",
        "grace ends    2099-06-01T10:00:00Z",
        "hosts         0 of 3",
        "events today  0 of any number",
    ]
    ended = run(app, "subscription", "acme", "--grace-ends", "2026-01-02", "--max-hosts", "default").stdout.splitlines()
    assert ended[1:3] == [
        "refused       payment is past due, and its grace ended at 2026-01-02T00:00:00Z",
        "hosts         0 of any number",
    ]
    assert run(app, "list").stdout.split()[:2] == ["acme", "ended"]


def test_a_subscription_changes_as_it_was_told_or_not_at_all(run: Callable[..., Result]) -> None:
    run(app, "create", "acme")
    assert run(app, "subscription", "acme", "--set", "ended").stdout.startswith("tenant acme, subscription ended\n")
    assert run(app, "list").stdout.split()[:2] == ["acme", "ended"]
    for arguments, complaint in (
        (("acme", "--set", "gratis"), "want one of trial"),
        (("zeta",), "there is no tenant 'zeta'"),
        (("zeta", "--set", "ended"), "there is no tenant 'zeta'"),
        (("acme", "--trial-ends", "tomorrow"), "date 'tomorrow': want 2026-12-31"),
        (("acme", "--trial-ends", "2099-12-31"), "only a subscription that is trial"),
        (("acme", "--max-hosts", "many"), "limit 'many': want a number"),
        (("acme", "--max-daily-events", "0"), "want 1 to"),
    ):
        failed = run(app, "subscription", *arguments)
        assert (failed.exit_code, failed.stdout) == (2, "")
        assert complaint in failed.stderr
        assert failed.stderr.count("\n") == 1


def test_which_customer_a_tenant_is_can_be_said_until_it_has_a_subscription(run: Callable[..., Result]) -> None:
    from dataclasses import replace

    from tenancy.billing import Notice, hear
    from tenancy.database import open_database

    run(app, "create", "acme")
    run(app, "create", "bolt")
    assert run(app, "billing", "acme").stdout == "tenant acme is no customer (live)\n"
    for customer in ("cus_1", "cus_2"):
        shown = run(app, "billing", "acme", "--customer", customer)
        assert shown.stdout == f"tenant acme is {customer} (live), nothing heard of it yet\n"
    assert "another tenant's" in run(app, "billing", "bolt", "--customer", "cus_2").stderr
    db = open_database()
    told = Notice("evt_1", "customer.subscription.updated", db.clock(), "cus_2", "sub_1", "active", db.clock())
    hear(db, told)
    refused = run(app, "billing", "acme", "--customer", "cus_3")
    assert (refused.exit_code, refused.stderr) == (2, "error: tenant 'acme' has a subscription as customer 'cus_2'\n")
    hear(db, replace(told, event_id="evt_2", kind="customer.subscription.deleted", status="canceled"))
    db.close()
    assert run(app, "billing", "acme").stdout == "tenant acme is cus_2 (live), canceled\n"
    assert run(app, "billing", "acme", "--customer", "cus_3").exit_code == 0
