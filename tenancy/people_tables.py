"""The control database's tables of people: who they are, where they belong, and how they came in."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, ForeignKey, String, Table, Text

from tenancy.metadata import METADATA, UtcDateTime

# Whoever acts is a number in the audit chain; who that is stands here alone, where an erasure can blank it.
PEOPLE: Final = Table(
    "people",
    METADATA,
    Column("person_id", String(40), primary_key=True),
    Column("name", Text, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
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
