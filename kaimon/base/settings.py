"""The one setting that every part shares: where local state lives."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parents[2]


class HomeSettings(BaseSettings):
    """Read from `KAIMON_HOME`; each package's settings derive their paths from it."""

    model_config = SettingsConfigDict(env_prefix="KAIMON_", frozen=True, extra="ignore")

    home: Path = Field(
        default=PROJECT_ROOT / "var",
        description="Folder of all local state: control database, keys, staging, lake, outbox, Dagster's own files.",
    )
