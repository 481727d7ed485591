"""The jobs: land what is staged, and close a day. Both in one process: a step of ours costs less than starting one."""

from __future__ import annotations

from dagster import AssetSelection, define_asset_job, in_process_executor

from pipelines.settings import PipelineSettings

_LAND_LIMIT_S = int(PipelineSettings().landing_limit_s) + 600
"""When a landing run counts as hung: its own limit, and ten minutes to finish a group."""

LAND = define_asset_job(
    "land",
    AssetSelection.assets("events"),
    executor_def=in_process_executor,
    tags={"kaimon/work": "land", "dagster/priority": "10", "dagster/max_runtime": str(_LAND_LIMIT_S)},
    description="Land whatever is staged until nothing has come for a while.",
)

CLOSE_DAY = define_asset_job(
    "close_day",
    AssetSelection.assets("day_checks").downstream(),
    executor_def=in_process_executor,
    tags={"kaimon/work": "day"},
    description="Check a day, roll it up, compute its facts, write and deliver its summary. Any day, any time.",
)
