"""The control database's tables of the portal's API: its keys, and answers that may be asked for again."""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, Column, ForeignKey, LargeBinary, String, Table, Text

from tenancy.metadata import METADATA, UtcDateTime

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    Column("key_id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.tenant_id"), nullable=False, index=True),
    Column("token_hmac", String(64), nullable=False, unique=True),
    Column("prefix", String(16), nullable=False),
    Column("last_four", String(4), nullable=False),
    Column("label", Text),
    Column("scopes", JSON, nullable=False),
    Column("created_by", String(40), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("sealed", Text, nullable=False),
    Column("sealed_with", String(40), nullable=False, index=True),
)

# What was answered to a request with an Idempotency-Key, encrypted so that only its sender can have it again: an answer
# may hold a token. No answer yet: the request is under way, or was broken off.
API_ANSWERS: Final = Table(
    "api_answers",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("tenant_id", String(40), nullable=False, index=True),
    Column("request_digest", String(64), nullable=False),
    Column("answer", LargeBinary),
    Column("created_at", UtcDateTime, nullable=False, index=True),
)
