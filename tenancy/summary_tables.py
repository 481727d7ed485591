"""The control database's tables of what tenants are told: findings set aside, schedules, recipients, mails."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, Date, ForeignKey, Integer, String, Table, Text

from tenancy.metadata import METADATA, UtcDateTime

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
