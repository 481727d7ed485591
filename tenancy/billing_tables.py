"""The control database's tables of the payment processor: whose customer is whose, and which of its events were heard.

Ids, states and moments only: what pays for a subscription is the processor's to know.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, String, Table

from tenancy.metadata import METADATA, UtcDateTime

# `status` and what follows is as of the event that counted last: it was made at `told_at`, `told_rank` tells events of
# one second apart, and `version` counts them, so that nothing that was looked up before one is written after it.
BILLING_CUSTOMERS: Final = Table(
    "billing_customers",
    METADATA,
    Column("tenant_id", ForeignKey("tenants.tenant_id"), primary_key=True),
    Column("customer_id", String(255), nullable=False, unique=True),
    Column("live", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("subscription_id", String(255)),
    Column("begun_at", UtcDateTime),
    Column("status", String(32)),
    Column("latest_invoice", String(255)),
    Column("period_ends_at", UtcDateTime),
    Column("cancels_at", UtcDateTime),
    Column("told_at", UtcDateTime),
    Column("told_rank", Integer, nullable=False),
    Column("version", BigInteger, nullable=False),
)

# Each event once, however often it is sent.
BILLING_EVENTS: Final = Table(
    "billing_events",
    METADATA,
    Column("event_id", String(255), primary_key=True),
    Column("tenant_id", String(40), nullable=False, index=True),
    Column("kind", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False, index=True),
    Column("outcome", String(16), nullable=False),
)
