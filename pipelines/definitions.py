"""Everything that Dagster is to know, on one screen."""

from __future__ import annotations

from dagster import Definitions, in_process_executor

from kaimon.base.logs import configure_logs
from pipelines.alerts.sensors import alerts, failed_run
from pipelines.assets import ASSETS
from pipelines.audit import HOURLY, NIGHTLY, purge_audit, sign_audit
from pipelines.jobs import CLOSE_DAY, LAND
from pipelines.posting import POST_EVERY_FIVE_MINUTES, post_summaries
from pipelines.provisional import EVERY_FIVE_MINUTES, provisional
from pipelines.purge import NIGHTLY as PURGE_NIGHTLY
from pipelines.purge import purge_dagster
from pipelines.resources import Platform
from pipelines.retention import daily
from pipelines.schedules import nightly
from pipelines.sensors import staged

configure_logs("pipelines")

defs = Definitions(
    assets=[*ASSETS, daily.retention],
    jobs=[LAND, CLOSE_DAY, provisional, post_summaries, sign_audit, purge_audit, purge_dagster, daily.RETAIN],
    sensors=[staged, failed_run, alerts],
    schedules=[nightly, EVERY_FIVE_MINUTES, POST_EVERY_FIVE_MINUTES, HOURLY, NIGHTLY, PURGE_NIGHTLY, daily.NIGHTLY],
    resources={"platform": Platform()},
    executor=in_process_executor,
)
