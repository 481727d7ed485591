"""The control database's tables, in words that SQLite and PostgreSQL both understand."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    TypeDecorator,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, aware in Python; SQLite, which has no zones, keeps the UTC wall time as sortable text."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive moments; turn the rest into UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the base class's signature
        """Give back an aware moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

TENANTS: Final = Table(
    "tenants",
    METADATA,
    Column("tenant_id", String(40), primary_key=True),
    Column("name", Text, nullable=False),
    Column("subscription", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("subscription_since", UtcDateTime),
    Column("trial_ends_at", UtcDateTime),
    Column("grace_ends_at", UtcDateTime),
    Column("max_hosts", Integer),
    Column("max_daily_events", BigInteger),
    Column("keep_days", Integer),
    Column("kms_key", Text),
)

TENANT_KEYS: Final = Index("uq_tenants_kms_key", TENANTS.c.kms_key, unique=True)

ENROLLMENT_TOKENS: Final = Table(
    "enrollment_tokens",
    METADATA,
    Column("token_id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.tenant_id"), nullable=False, index=True),
    Column("token_hmac", String(64), nullable=False, unique=True),
    Column("prefix", String(16), nullable=False),
    Column("last_four", String(4), nullable=False),
    Column("label", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("uses", Integer, nullable=False),
    Column("max_uses", Integer),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("sealed", Text),
    Column("sealed_with", String(40), index=True),
)

HOSTS: Final = Table(
    "hosts",
    METADATA,
    Column("agent_id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.tenant_id"), nullable=False, index=True),
    Column("token_id", String(40), ForeignKey("enrollment_tokens.token_id"), nullable=False, index=True),
    Column("hostname", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("agent_version", Text, nullable=False),
    Column("host", JSON, nullable=False),
    Column("enrolled_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
)

HOST_CREDENTIALS: Final = Table(
    "host_credentials",
    METADATA,
    Column("token_hmac", String(64), primary_key=True),
    Column("agent_id", String(40), ForeignKey("hosts.agent_id"), nullable=False, index=True),
    Column("last_four", String(4), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
    Column("first_used_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("sealed", Text),
    Column("sealed_with", String(40), index=True),
)

EPOCHS: Final = Table(
    "epochs",
    METADATA,
    Column("name", String(40), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

# One key of a purpose is current; a retired one stays until nothing is sealed with it any more.
KEYS: Final = Table(
    "keys",
    METADATA,
    Column("key_id", String(40), primary_key=True),
    Column("purpose", String(16), nullable=False),
    Column("wrapped_by", Text, nullable=False),
    Column("wrapped", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("retired_at", UtcDateTime),
)
CURRENT_KEYS: Final = Index(
    "uq_keys_current",
    KEYS.c.purpose,
    unique=True,
    sqlite_where=KEYS.c.retired_at.is_(None),
    postgresql_where=KEYS.c.retired_at.is_(None),
)

# What kaimon 0.1 knew its key file by; read when its database is taken over.
KEY_PRINTS: Final = Table(
    "key_prints",
    METADATA,
    Column("name", String(40), primary_key=True),
    Column("print", String(64), nullable=False),
)

LEASES: Final = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("holder", Text),
    Column("fence", BigInteger, nullable=False),
    Column("ttl_s", Float, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

# Day states, hints and use name tenants without a foreign key: they follow what was sent and what lies in storage,
# which the control plane does not decide, and an erasure must be able to remove the tenant first.
DAY_STATES: Final = Table(
    "day_states",
    METADATA,
    Column("tenant_id", String(40), primary_key=True),
    Column("day", Date, primary_key=True, index=True),
    Column("state", String(16), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("sealed_version", BigInteger, nullable=False, server_default="0"),
)

STAGED_HINTS: Final = Table(
    "staged_hints",
    METADATA,
    Column("tenant_id", String(40), primary_key=True),
    Column("node", String(64), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False, index=True),
    Column("since", UtcDateTime),
)

# How far landing has come; `quarantined` is of `quarantine_day`, the newest day on which anything was.
WATERMARKS: Final = Table(
    "watermarks",
    METADATA,
    Column("tenant_id", String(40), primary_key=True),
    Column("received_at", UtcDateTime, nullable=False),
    Column("landed_at", UtcDateTime, nullable=False),
    Column("quarantine_day", Date),
    Column("quarantined", BigInteger, nullable=False, server_default="0"),
)

# A row's `events` are rows of events that were taken on a UTC day, by the day of their arrival.
TENANT_USE: Final = Table(
    "tenant_use",
    METADATA,
    Column("tenant_id", String(40), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("events", BigInteger, nullable=False),
)

# Ids only, so that an erasure need not touch it; `detail` is small and says nothing personal.
ALARMS: Final = Table(
    "alarms",
    METADATA,
    Column("tenant_id", String(40), primary_key=True),
    Column("kind", String(40), primary_key=True),
    Column("subject", String(200), primary_key=True),
    Column("agent_id", String(40), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("raised_at", UtcDateTime, nullable=False, index=True),
)

# What operators are told outside: one row a cause from when it is noticed until it is over. Ids and counts only.
ALERTS: Final = Table(
    "alerts",
    METADATA,
    Column("alert_id", String(40), primary_key=True),
    Column("tenant_id", String(40), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("subject", String(240), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("raised_at", UtcDateTime, nullable=False, index=True),
    Column("cleared_at", UtcDateTime),
)
OPEN_ALERTS: Final = Index(
    "uq_alerts_open",
    ALERTS.c.kind,
    ALERTS.c.tenant_id,
    ALERTS.c.subject,
    unique=True,
    sqlite_where=ALERTS.c.cleared_at.is_(None),
    postgresql_where=ALERTS.c.cleared_at.is_(None),
)

ALERT_NOTICES: Final = Table(
    "alert_notices",
    METADATA,
    Column("alert_id", String(40), primary_key=True),
    Column("channel", String(16), primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("sent_at", UtcDateTime),
)

# Whoever acts is a number in the audit chain; who that is stands here alone, where an erasure can blank it.
PEOPLE: Final = Table(
    "people",
    METADATA,
    Column("person_id", String(40), primary_key=True),
    Column("name", Text, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
)

# One a tenant, for ever: an id that was erased is never given again. `found` is what was deleted, in numbers.
ERASURES: Final = Table(
    "erasures",
    METADATA,
    Column("tenant_id", String(40), primary_key=True),
    Column("erasure_id", String(40), nullable=False, unique=True),
    Column("reason", String(16), nullable=False),
    Column("begun_by", String(40), nullable=False),
    Column("begun_at", UtcDateTime, nullable=False),
    Column("found", JSON, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("receipt", String(64)),
)

# What a rule is not to report, for whom and until when; a null means any. `reason` is a person's own words.
FINDING_SUPPRESSIONS: Final = Table(
    "finding_suppressions",
    METADATA,
    Column("suppression_id", String(40), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.tenant_id"), nullable=False, index=True),
    Column("rule", String(64), nullable=False),
    Column("agent_id", String(40)),
    Column("exe", Text),
    Column("user", Text),
    Column("path_prefix", Text),
    Column("reason", Text, nullable=False),
    Column("expires_on", Date, nullable=False),
    Column("created_by", String(40), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
)

FINDING_CLOSINGS: Final = Table(
    "finding_closings",
    METADATA,
    Column("closing_id", String(40), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.tenant_id"), nullable=False, index=True),
    Column("finding_id", String(40), nullable=False),
    Column("reason", Text, nullable=False),
    Column("closed_by", String(40), nullable=False),
    Column("closed_at", UtcDateTime, nullable=False),
)

# When a tenant's summaries go out, in its own time zone, and whether a model may word them.
SUMMARY_SCHEDULES: Final = Table(
    "summary_schedules",
    METADATA,
    Column("tenant_id", ForeignKey("tenants.tenant_id"), primary_key=True),
    Column("daily", Boolean, nullable=False),
    Column("weekly", Boolean, nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("hour", Integer, nullable=False),
    Column("model", Boolean, nullable=False),
)

SUMMARY_RECIPIENTS: Final = Table(
    "summary_recipients",
    METADATA,
    Column("recipient_id", String(40), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.tenant_id"), nullable=False, index=True),
    Column("address", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("code_digest", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("confirmed_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("bounces", Integer, nullable=False),
)

# How a service fares that every process shares: left alone until `open_until` after `failures` in a row.
BREAKERS: Final = Table(
    "breakers",
    METADATA,
    Column("name", String(200), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("open_until", UtcDateTime),
    Column("changed_at", UtcDateTime, nullable=False),
)

# One row a recipient, period and revision: claimed before it is sent, so that a killed run is gone on with.
SUMMARY_MAILS: Final = Table(
    "summary_mails",
    METADATA,
    Column("recipient_id", ForeignKey("summary_recipients.recipient_id"), primary_key=True),
    Column("period", String(8), primary_key=True),
    Column("period_start", Date, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("tenant_id", ForeignKey("tenants.tenant_id"), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("error", String(64)),
    Column("due_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
)

# Who a login at the identity provider is here. What the provider calls a person says nothing to anybody else.
LOGINS: Final = Table(
    "logins",
    METADATA,
    Column("issuer", String(255), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("person_id", String(40), nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
)

MEMBERS: Final = Table(
    "members",
    METADATA,
    Column("tenant_id", ForeignKey("tenants.tenant_id"), primary_key=True),
    Column("person_id", String(40), primary_key=True, index=True),
    Column("role", String(8), nullable=False),
    Column("joined_at", UtcDateTime, nullable=False),
)

INVITATIONS: Final = Table(
    "invitations",
    METADATA,
    Column("invitation_id", String(40), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.tenant_id"), nullable=False, index=True),
    Column("email", Text, nullable=False, index=True),
    Column("role", String(8), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

# Sessions of the portal, by the SHA-256 of the id that the browser holds; and logins that have begun, by their state.
PORTAL_SESSIONS: Final = Table(
    "portal_sessions",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("person_id", String(40), nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    Column("used_at", UtcDateTime, nullable=False),
)

LOGIN_ATTEMPTS: Final = Table(
    "login_attempts",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("state", String(64), nullable=False),
    Column("nonce", String(64), nullable=False),
    Column("verifier", String(128), nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
)

AUDIT_HEADS: Final = Table(
    "audit_heads",
    METADATA,
    Column("chain", String(40), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
)

AUDIT_RECORDS: Final = Table(
    "audit_records",
    METADATA,
    Column("chain", String(40), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
    Column("digest", String(64), nullable=False),
)


def select_record(record: type[Any], table: Table) -> Select[Any]:
    """Select exactly the columns that the dataclass `record` has fields for, in their order."""
    return select(*(table.c[field.name] for field in fields(record)))


def insert_into(table: Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that knows `on_conflict_*` in the given dialect."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
