"""The hourly witness of the audit chains."""

from __future__ import annotations

from typing import Any

import dagster as dg

from lake.stores import open_store
from pipelines.audit import HOURLY, sign_audit, sign_heads
from pipelines.resources import Platform


def test_every_hour_the_chains_that_have_grown_are_signed_into_the_audit_store(home: Any) -> None:
    home.tenant("acme")
    assert HOURLY.cron_schedule == "7 * * * *"
    assert HOURLY.default_status == dg.DefaultScheduleStatus.RUNNING
    done = sign_audit.execute_in_process(resources={"platform": Platform()}, instance=home.instance)
    assert done.success
    store = open_store("audit")
    assert [found.key for found in store.list("heads")] == ["heads/acme/000000000001.json"]
    home.tenant("beta")
    assert sign_heads(home.db, store) == ["beta"]
