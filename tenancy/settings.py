"""Settings of the control plane."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr
from sqlalchemy import URL, make_url

from kaimon.base.secrets import resolved
from kaimon.base.settings import AwsSettings, HomeSettings

_POSTGRES: Final = ("postgresql", "postgres")


class TenancySettings(HomeSettings):
    """Where the control database and its key are, and how long things last."""

    database_url: SecretStr | None = Field(
        default=None,
        description="URL of the control database, `postgresql://user:password@host/name`, or a reference to a secret "
        "that holds it: `aws-secret:NAME` or `aws-secret:NAME#FIELD`. Without it, SQLite in `control.db` in the home.",
    )
    database_password: SecretStr | None = Field(
        default=None,
        description="Password of the control database, in place of the URL's; may be a reference: "
        "`aws-secret:NAME#FIELD`.",
    )
    database_timeout_s: float = Field(
        default=10.0,
        gt=0,
        description="Seconds that PostgreSQL may take for a statement; a lock is waited for four fifths of that, and a "
        "server that says nothing at all is given up 2 s later.",
    )
    token_key_file: Path | None = Field(
        default=None,
        description="File of the 32 random bytes that wrap the data keys if no KMS does, mode 0600; without it, "
        "`keys/token.key` in the home. Made on first use. Losing it makes every token unknown.",
    )
    kms_key_id: str | None = Field(
        default=None,
        description="AWS KMS key (id, ARN or alias) that wraps the data keys, in `KAIMON_AWS_REGION`; without it, the "
        "key file does. `kaimon keys rotate` makes a change of it take hold.",
    )
    lease_ttl_s: float = Field(
        default=60.0, gt=0, description="Seconds after which a lease that was not renewed may be taken by another."
    )
    revocation_poll_s: float = Field(
        default=0.5, gt=0, description="Seconds between two looks at the revocation epoch."
    )
    revocation_grace_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds that a worker answers from memory when it cannot look; then it says 503.",
    )
    last_used_every_s: float = Field(
        default=60.0, gt=0, description="Seconds between two notes of which credentials were used."
    )
    usage_every_s: float = Field(
        default=5.0,
        gt=0,
        description="Seconds between two notes of how many events each tenant sent; workers know of each other's that "
        "late.",
    )
    trial_days: float = Field(default=30.0, gt=0, le=3650, description="Days that a new trial lasts.")
    trial_max_hosts: int = Field(
        default=50, ge=1, description="Hosts that a tenant on trial may have, if nothing else was agreed."
    )
    trial_daily_events: int = Field(
        default=50_000_000,
        ge=1,
        description="Events that a tenant on trial may send in a UTC day, if nothing else was agreed.",
    )
    past_due_grace_days: float = Field(
        default=14.0, gt=0, le=3650, description="Days that a tenant whose payment is past due may still send."
    )
    audit_key_file: Path | None = Field(
        default=None,
        description="File of the Ed25519 key (32 bytes, mode 0600) that signs the audit chains' heads; without it, "
        "`keys/audit.key` in the home. Made on first use.",
    )
    erasure_grace_hours: float = Field(
        default=24.0,
        gt=0,
        le=720,
        description="Hours within which an Admin may withdraw the erasure that was asked for in the portal; the night "
        "after, it is carried out.",
    )
    receipt_key: SecretStr | None = Field(
        default=None,
        description="Ed25519 key, as PEM (PKCS#8) without a password, that signs the receipts of erasures, or a "
        "reference to a secret that holds it: `aws-secret:NAME` or `aws-secret:NAME#FIELD`. Without it, "
        "`KAIMON_RECEIPT_KEY_FILE`.",
    )
    receipt_key_file: Path | None = Field(
        default=None,
        description="File of that key (32 bytes, mode 0600); without it, `keys/receipt.key` in the home. Made on first "
        "use.",
    )

    @property
    def control_url(self) -> URL:
        """The control database's URL; as text it hides the password.

        Raises:
            kaimon.base.aws.AwsError: it is a reference to a secret that cannot be read.
            ValueError: the reference is not one.
        """
        if self.database_url is not None:
            aws = AwsSettings(home=self.home)
            url = make_url(resolved(self.database_url, aws))
            if self.database_password is not None:
                url = url.set(password=resolved(self.database_password, aws))
            return url.set(drivername="postgresql+psycopg") if url.drivername in _POSTGRES else url
        return URL.create("sqlite", database=str(self.home / "control.db"))

    @property
    def token_key_path(self) -> Path:
        """Where the key file lies."""
        return self.token_key_file or self.home / "keys" / "token.key"

    @property
    def audit_key_path(self) -> Path:
        """Where the key lies that signs the audit chains' heads."""
        return self.audit_key_file or self.home / "keys" / "audit.key"

    @property
    def receipt_key_path(self) -> Path:
        """Where the key lies that signs receipts, if no setting holds it."""
        return self.receipt_key_file or self.home / "keys" / "receipt.key"
