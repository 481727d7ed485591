"""What a subscription allows, as a host hears of it from a real server."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from kaimon.base.clock import utc_now
from tenancy.database import Database
from tenancy.enrollment import create_token
from tenancy.tenants import set_subscription, use_of


def refusals(server: Any, tenant: str, code: str) -> float:
    """Return how often a tenant was refused with that code."""
    line = rf'^kaimon_ingest_tenant_refusals_total\{{code="{code}",tenant="{tenant}"\}} (\S+)$'
    found = re.search(line, server.client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def refused(server: Any, host: Any, status: int) -> Any:
    """Send batches until one is refused so; the change that does it is known within a second."""
    deadline = utc_now() + timedelta(seconds=20)
    while (answer := server.send(host, host.batch(1))).status_code != status:
        assert answer.status_code == 200, answer.text
        assert utc_now() < deadline
    return answer


def test_a_trial_that_ends_is_refused_at_its_moment_and_counted(
    server: Any, database: Database, host: Any, wire: Any
) -> None:
    assert server.send(host, host.batch()).status_code == 200
    ends_at = (utc_now() + timedelta(seconds=3)).replace(microsecond=0)
    set_subscription(database, host.tenant, "trial", trial_ends_at=ends_at)
    answer = refused(server, host, 403)
    assert utc_now() >= ends_at
    problem = answer.json()
    assert problem["code"] == "subscription_lapsed"
    assert problem["detail"] == f"the trial ended at {ends_at:%Y-%m-%dT%H:%M:%SZ}"
    assert "about" not in problem
    assert refusals(server, host.tenant, "subscription_lapsed") == 1
    (line,) = [one for one in server.log_lines() if one.get("request_id") == problem["request_id"]]
    assert (line["tenant"], line["agent_id"], line["code"]) == (host.tenant, host.agent_id, "subscription_lapsed")
    set_subscription(database, host.tenant, "active")
    wire.wait_until(lambda: server.send(host, host.batch()).status_code == 200, "the tenant to be welcome")


def test_past_due_is_taken_with_a_warning(server: Any, database: Database, host: Any, wire: Any) -> None:
    assert "kaimon-subscription" not in server.send(host, host.batch()).headers
    set_subscription(database, host.tenant, "past_due", grace_ends_at=datetime(2099, 1, 2, tzinfo=UTC))

    def warned() -> bool:
        answer = server.send(host, host.batch())
        assert answer.status_code == 200
        return answer.headers.get("kaimon-subscription") == "past_due; grace_ends_at=2099-01-02T00:00:00Z"

    wire.wait_until(warned, "the warning")


def test_past_the_days_events_a_host_is_told_when_to_come_back(
    server: Any, database: Database, host: Any, wire: Any
) -> None:
    assert server.send(host, host.batch(10)).status_code == 200
    set_subscription(database, host.tenant, max_daily_events=30)
    answer = refused(server, host, 429)
    assert answer.json()["code"] == "daily_limit"
    assert 0 < int(answer.headers["retry-after"]) <= 86_400
    staged = sum(record.rows for segment in wire.segments(server.home, host.tenant) for record in segment.batches)
    assert staged >= 30
    wire.wait_until(lambda: use_of(database, host.tenant).events_today == staged, "the count to be written down")
    assert refusals(server, host.tenant, "daily_limit") >= 1
    set_subscription(database, host.tenant, max_daily_events=1_000_000)
    wire.wait_until(lambda: server.send(host, host.batch()).status_code == 200, "the tenant to be welcome")


def test_one_host_too_many_is_refused_by_name_and_counted(
    server: Any, database: Database, new_host: Callable[[], Any]
) -> None:
    host = new_host()
    set_subscription(database, host.tenant, max_hosts=2)
    _, token = create_token(database, host.tenant)
    server.enroll_with(token)
    wish = {
        "hostname": "host-3",
        "boot_id": "8a3b6f5e-0000-4000-8000-000000000000",
        "agent_version": "0.1.0",
        "host": {"os": "Debian", "kernel": "6.1.0", "arch": "x86_64", "cloud": None},
    }
    answer = server.client.post("/v1/enroll", json=wish, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "host_limit")
    assert refusals(server, host.tenant, "host_limit") == 1
