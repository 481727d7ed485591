"""Settings of the pipelines."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from kaimon.base.regions import require_us_model, require_us_region
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
    landing_at_once: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Tenants that a landing run lands at the same time. They share the rows that it holds in memory; "
        "more of them help where storage is slow to answer, as S3 is.",
    )
    landing_crowd: int = Field(
        default=500,
        ge=1,
        description="Tenants that wait when a landing run looks, from which on processes of their own land them: as "
        "many as `KAIMON_LANDING_AT_ONCE` says, two tenants at once each; one takes 200 MB and seconds to start. "
        "Below it they are threads of the run. With `KAIMON_LANDING_AT_ONCE=1` there are none.",
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


class ModelSettings(HomeSettings):
    """Which language model words summaries, for the tenants that let it, and how much patience it is given."""

    summary_model: str | None = Field(
        default=None,
        description="Amazon Bedrock's id of the model that words summaries, or of its profile over regions of the "
        "United States (`us.` or `us-gov.`); without it the template does.",
    )
    summary_model_region: str | None = Field(
        default=None,
        description="Region where the model is asked, in the United States; by default `KAIMON_AWS_REGION`.",
    )
    summary_model_max_tokens: int = Field(
        default=1500, ge=200, le=8000, description="Tokens that one answer of the model may have."
    )
    summary_model_timeout_s: float = Field(
        default=30.0, gt=0, le=120, description="Seconds in which an answer must be there; it is asked twice at most."
    )
    summary_model_failures: int = Field(
        default=3, ge=1, description="Summaries in a row without a usable answer after which the model is left alone."
    )
    summary_model_pause_s: float = Field(
        default=900.0, gt=0, description="Seconds for which it is left alone; then one summary tries it again."
    )

    @field_validator("summary_model")
    @classmethod
    def _model_in_the_united_states(cls, model: str | None) -> str | None:
        return model and require_us_model(model)

    @field_validator("summary_model_region")
    @classmethod
    def _in_the_united_states(cls, region: str | None) -> str | None:
        return region and require_us_region(region)


class DagsterSettings(HomeSettings):
    """Where Dagster keeps what it knows of runs, and for how long."""

    dagster_database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL in which Dagster keeps runs, events and ticks, `postgresql://user:password@host/name`, "
        "or a reference to a secret that holds it: `aws-secret:NAME` or `aws-secret:NAME#FIELD`. A database of "
        "its own, never the control database. Without it, SQLite in `dagster` in the home.",
    )
    compute_logs_url: str | None = Field(
        default=None,
        description="Where Dagster keeps what runs print, `s3://bucket/prefix`, or `local`, below `dagster` in the "
        "home. Without it, in `compute-logs` where the stores are, if they are in S3.",
        pattern=r"^(local|s3://[^/]+/.+)$",
    )
    run_retention_days: int = Field(
        default=14, ge=1, description="Days for which Dagster's record of a run is kept, unless it is a day's."
    )
    day_run_retention_days: int = Field(
        default=400,
        ge=1,
        description="Days for which its record of a day's run is kept; without it the day looks undone in Dagster's "
        "pages.",
    )


class AlertSettings(HomeSettings):
    """Whom to tell when something is wrong, how, and from when on it counts as wrong."""

    alert_mail_to: str | None = Field(
        default=None, description="Addresses, with commas between, to which alerts are mailed; without it none are."
    )
    alert_webhook_url: SecretStr | None = Field(
        default=None,
        description="Address (`https`) to which alerts are posted as JSON, signed as Standard Webhooks are; without it "
        "none are. It is kept secret, since whoever knows it can often write there.",
    )
    alert_webhook_secret: SecretStr | None = Field(
        default=None,
        description="Key of that signature (HMAC-SHA256), `whsec_` and at least 24 bytes as base64, or a reference to "
        "a secret that holds it: `aws-secret:NAME` or `aws-secret:NAME#FIELD`.",
    )
    alert_webhook_ca: Path | None = Field(
        default=None,
        description="Certificates (PEM) of the authorities trusted for the webhook; by default the machine's.",
    )
    alert_runbook_url: str = Field(
        default="docs/runbook.md", description="Address of the runbook, to which each alert links."
    )
    alert_stale_s: float = Field(
        default=300.0,
        gt=0,
        description="Seconds that something may be staged and not land before its tenant counts as stale.",
    )
    alert_quarantine_lines: int = Field(
        default=100,
        ge=1,
        description="Lines of a tenant in quarantine, of those that arrived today UTC, that raise an alert.",
    )
    alert_interval_s: int = Field(default=30, ge=1, description="Seconds between two looks for what is wrong.")

    @field_validator("alert_webhook_url")
    @classmethod
    def _never_in_the_clear(cls, url: SecretStr | None) -> SecretStr | None:
        # What is raised here must not repeat the address.
        if url is not None and not url.get_secret_value().startswith("https://"):
            raise ValueError("a webhook is asked by https")
        return url

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that are set up: `mail`, `webhook`."""
        wanted = {"mail": self.alert_mail_to, "webhook": self.alert_webhook_url}
        return tuple(channel for channel, setting in wanted.items() if setting is not None)
