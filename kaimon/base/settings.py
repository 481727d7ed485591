"""The settings that every part shares: where local state lives, and where in AWS."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from kaimon.base.regions import require_https_or_here, require_us_region

PROJECT_ROOT = Path(__file__).resolve().parents[2]


class HomeSettings(BaseSettings):
    """Read from `KAIMON_HOME`; each package's settings derive their paths from it."""

    # An error names the setting; what was given is not shown, for beside the one that is wrong may stand a secret.
    model_config = SettingsConfigDict(env_prefix="KAIMON_", frozen=True, extra="ignore", hide_input_in_errors=True)

    home: Path = Field(
        default=PROJECT_ROOT / "var",
        description="Folder of all local state: control database, keys, staging, lake, outbox, Dagster's own files.",
    )


class TracingSettings(HomeSettings):
    """Where traces go."""

    otlp_endpoint: str | None = Field(
        default=None,
        description="Address of an OpenTelemetry collector (OTLP over HTTP), such as `http://127.0.0.1:4318`; without "
        "it there are no traces. `https`, unless it is on this machine. What it gets: ids, counts and times.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _safe_on_its_way(cls, endpoint: str | None) -> str | None:
        return endpoint and require_https_or_here(endpoint)


class AwsSettings(HomeSettings):
    """Where in AWS. There is no setting for credentials: they are those of the environment's role."""

    aws_region: str | None = Field(
        default=None,
        description="Region of every AWS service in use; only regions in the United States: us-east-1, us-east-2, "
        "us-west-1, us-west-2, us-gov-east-1, us-gov-west-1.",
    )
    aws_endpoint_url: str | None = Field(
        default=None,
        description="Address of AWS if not its public one: a VPC endpoint in that region (`https`), or a stand-in on "
        "this machine.",
    )
    aws_s3_endpoint_url: str | None = Field(
        default=None,
        description="Address of S3 alone, where it is not that of the other services: an S3 endpoint of a VPC, or a "
        "stand-in on this machine.",
    )
    aws_bedrock_endpoint_url: str | None = Field(
        default=None,
        description="Address of Amazon Bedrock's runtime alone, where it is not that of the other services: an "
        "endpoint of a VPC, or a stand-in on this machine.",
    )

    @field_validator("aws_region")
    @classmethod
    def _in_the_united_states(cls, region: str | None) -> str | None:
        return region and require_us_region(region)


class MailSettings(HomeSettings):
    """The mail server that takes what kaimon sends: alerts to operators, summaries to who confirmed."""

    smtp_host: str | None = Field(
        default=None,
        description="Mail server (SMTP submission); without it nothing is mailed. Nothing is ever sent without TLS and "
        "a certificate that fits this name.",
    )
    smtp_port: int = Field(
        default=587,
        ge=1,
        le=65535,
        description="Its port: 465 is TLS from the first byte, any other begins it by STARTTLS.",
    )
    smtp_user: str | None = Field(default=None, description="Who logs in there; without it nobody does.")
    smtp_password: SecretStr | None = Field(
        default=None,
        description="The password for it, or a reference to a secret that holds it: `aws-secret:NAME` or "
        "`aws-secret:NAME#FIELD`.",
    )
    smtp_ca: Path | None = Field(
        default=None,
        description="Certificates (PEM) of the authorities trusted for the mail server; by default the machine's.",
    )
    smtp_from: str | None = Field(default=None, description="Address from which kaimon's mail comes.")
    mail_through: Literal["smtp", "ses"] = Field(
        default="smtp",
        description="What takes the mail: the server above, or Amazon SES in `KAIMON_AWS_REGION`, as the environment's "
        "role.",
    )
    ses_configuration_set: str | None = Field(
        default=None, description="Configuration set of SES whose event destinations hear what became of each mail."
    )
    ses_events_queue: str | None = Field(
        default=None,
        description="URL of the SQS queue, in that region, to which SES's bounces and complaints come, by itself or "
        "through SNS; every five minutes they are read and the addresses mailed no more.",
    )

    @property
    def can_mail(self) -> bool:
        """Whether there is anything that takes mail."""
        return self.mail_through == "ses" or self.smtp_host is not None


class ReportSettings(HomeSettings):
    """What a mailed summary links to."""

    report_url: str | None = Field(
        default=None,
        description="Address (`https`) below which `confirm` and `unsubscribe` are, to which mailed summaries link; "
        "without it no summary is mailed.",
    )

    @field_validator("report_url")
    @classmethod
    def _https(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith("https://"):
            raise ValueError("a link in a mail is https")
        return url
