"""Alarms: kept once, logged once, listed in order."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from tenancy.alarms import CLONE, list_alarms, raise_alarm
from tenancy.database import Database


def test_an_alarm_is_kept_and_logged_once_however_often_it_is_raised(db: Database, tenant: str, clock: Any) -> None:
    with capture_logs() as logged:
        assert raise_alarm(db, tenant, CLONE, "agt_1/a/b", "agt_1", {"loads": ["a", "b"]})
        clock.move(60)
        assert not raise_alarm(db, tenant, CLONE, "agt_1/a/b", "agt_1", {"loads": ["other"]})
    [kept] = list_alarms(db, tenant)
    assert (kept.agent_id, kept.detail) == ("agt_1", {"loads": ["a", "b"]})
    assert [(one["event"], one["agent_id"], one["log_level"]) for one in logged] == [("alarm_raised", "agt_1", "error")]


def test_alarms_are_told_apart_by_tenant_and_subject_and_listed_from_a_moment_on(
    db: Database, tenant: str, clock: Any
) -> None:
    raise_alarm(db, tenant, CLONE, "agt_1/a/b", "agt_1", {})
    clock.move(60)
    later = clock()
    raise_alarm(db, tenant, CLONE, "agt_1/a/c", "agt_1", {})
    raise_alarm(db, "beta", CLONE, "agt_1/a/b", "agt_1", {})
    assert [(one.tenant_id, one.subject) for one in list_alarms(db)] == [
        ("acme", "agt_1/a/b"),
        ("acme", "agt_1/a/c"),
        ("beta", "agt_1/a/b"),
    ]
    assert [one.subject for one in list_alarms(db, tenant, later)] == ["agt_1/a/c"]
