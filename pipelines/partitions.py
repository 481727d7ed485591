"""Day partitions: UTC days, the running one included; tenants are data inside a day, never partitions."""

from __future__ import annotations

from dagster import DailyPartitionsDefinition

from pipelines.settings import PipelineSettings

DAYS = DailyPartitionsDefinition(start_date=PipelineSettings().first_day.isoformat(), timezone="UTC", end_offset=1)
