"""Settings of the pipelines."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from pydantic import Field

from kaimon.base.settings import HomeSettings


class PipelineSettings(HomeSettings):
    """When landing runs and for how long, which days there are, where summaries go."""

    landing_idle_s: float = Field(
        default=60.0, ge=0, description="Seconds without anything to land after which a landing run ends."
    )
    landing_limit_s: float = Field(
        default=600.0,
        gt=0,
        description="Seconds after which a landing run ends even if there is more; the next goes on.",
    )
    landing_poll_s: float = Field(
        default=0.5, gt=0, description="Seconds between two looks for staged segments inside a landing run."
    )
    landing_listing_s: float = Field(
        default=600.0, gt=0, description="Seconds between two full listings of the staging store, which is the truth."
    )
    sensor_interval_s: int = Field(
        default=5, ge=1, description="Seconds between two looks of the sensor that starts landing runs."
    )
    shards: int = Field(
        default=8, ge=1, description="Steps into which the tenants of a day are hashed where a day's work is sharded."
    )
    first_day: date = Field(default=date(2026, 1, 1), description="The first day that has a partition, UTC.")
    reopened_days: int = Field(
        default=8,
        ge=1,
        description="How many days back the nightly schedule closes days again that late data reopened.",
    )
    outbox: Path | None = Field(
        default=None, description="Folder for summaries as HTML, one folder a tenant; without it, `outbox` in the home."
    )

    @property
    def outbox_path(self) -> Path:
        """Where summaries go."""
        return self.outbox or self.home / "outbox"
