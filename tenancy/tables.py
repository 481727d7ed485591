"""The control database's tables, in words that SQLite and PostgreSQL both understand; all of them are in `SCHEMA`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    literal_column,
)

from tenancy import api_tables, billing_tables, people_tables, summary_tables  # noqa: F401 - their tables belong to the schema
from tenancy.metadata import METADATA, UtcDateTime

SCHEMA: Final = METADATA
"""Every table, those of people and of summaries too: to be had here, where all of them have been declared."""

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
UNSETTLED: Final = DAY_STATES.c.state != literal_column("'passed'")
"""Days that have not passed: a literal, as neither database uses a partial index for a parameter."""
UNSETTLED_DAYS: Final = Index(
    "ix_day_states_unsettled",
    DAY_STATES.c.tenant_id,
    DAY_STATES.c.day,
    sqlite_where=UNSETTLED,
    postgresql_where=UNSETTLED,
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

# What a tenant's Admin asked for, one a tenant. Like the erasure it stays when the tenant is gone: by the digest of its
# code whoever asked finds the receipt, who can log in no more.
ERASURE_REQUESTS: Final = Table(
    "erasure_requests",
    METADATA,
    Column("tenant_id", String(40), primary_key=True),
    Column("requested_by", String(40), nullable=False),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("code_digest", String(64), nullable=False, unique=True),
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
