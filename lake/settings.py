"""Where the stores lie, the limits of a query, and how the access log is kept."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, field_validator

from kaimon.base.settings import HomeSettings

StoreName = Literal["staging", "lake", "audit", "public", "outbox"]
STORES: Final[tuple[StoreName, ...]] = ("staging", "lake", "audit", "public", "outbox")


def _at_home(name: StoreName) -> Any:
    """Return a default: the folder of that name where the stores are, or at home, as a URL."""

    def default(values: dict[str, Any]) -> str:
        if (stores := values.get("stores_url")) is not None:
            return f"{stores}/{name}"
        return str((values["home"].resolve() / name).as_uri())

    return default


class LakeSettings(HomeSettings):
    """Read from `KAIMON_*`; a store's URL is `file:///absolute/folder` or `s3://bucket/prefix`."""

    stores_url: str | None = Field(
        default=None,
        description="Where all stores are, as a URL: `s3://bucket` or `s3://bucket/prefix` puts each into a folder of "
        "its name there; without it they are folders at home.",
    )
    s3_encryption: Literal["tenant", "bucket"] = Field(
        default="tenant",
        description="With what S3 encrypts a tenant's objects: `tenant`, the KMS key whose alias is "
        "`alias/kaimon-TENANT`, without which nothing of the tenant can be written; `bucket`, whatever the bucket's "
        "own default is.",
    )
    s3_tenant_role: str | None = Field(
        default=None,
        description="ARN of a role that is assumed for each tenant apart, under a policy that leaves it nothing but "
        "the tenant's folders; without it, everything is done as the environment's role.",
    )

    staging_url: str = Field(
        default_factory=_at_home("staging"),
        description="Where ingest stages segments, as a URL; by default `staging` in `stores_url` or at home.",
    )
    lake_url: str = Field(
        default_factory=_at_home("lake"),
        description="Where the tables are, as a URL; by default `lake` in `stores_url` or at home.",
    )
    audit_url: str = Field(
        default_factory=_at_home("audit"),
        description="Where audit records are, as a URL; by default `audit` in `stores_url` or at home.",
    )
    public_url: str = Field(
        default_factory=_at_home("public"),
        description="Where files for everybody are (agent packages, keys), as a URL; by default `public` in "
        "`stores_url` or at home.",
    )
    outbox_url: str = Field(
        default_factory=_at_home("outbox"),
        description="Where summaries lie as HTML, text and PDF, as a URL; by default `outbox` in `stores_url` or at "
        "home.",
    )
    access_flush_s: float = Field(
        default=10.0,
        gt=0,
        description="Seconds that a record of the access log waits at most before it is in the audit store; a process "
        "that is killed loses as much of it.",
    )
    access_waiting: int = Field(
        default=200_000,
        gt=0,
        description="Records of the access log that wait in a process when the audit store cannot be written; more are "
        "lost, counted and alarmed of.",
    )
    access_retention_days: int = Field(default=365, ge=1, description="Days for which the access log is kept.")
    query_time_limit_s: float = Field(default=30.0, gt=0, description="Seconds that a query may take, rows included.")
    query_row_limit: int = Field(default=10_000, gt=0, description="Rows that a query may return; the rest is cut.")
    query_memory_bytes: int = Field(default=1 << 30, gt=0, description="Memory that a query may take.")
    query_threads: int = Field(default=2, gt=0, description="Threads that a query may take.")

    @field_validator("stores_url")
    @classmethod
    def _without_a_slash(cls, url: str | None) -> str | None:
        return url and url.rstrip("/")

    def url(self, store: StoreName) -> str:
        """Return a store's URL."""
        return {
            "staging": self.staging_url,
            "lake": self.lake_url,
            "audit": self.audit_url,
            "public": self.public_url,
            "outbox": self.outbox_url,
        }[store]
