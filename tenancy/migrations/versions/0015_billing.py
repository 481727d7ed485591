"""The payment processor's customers, and its events that were heard."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "billing_customers",
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("customer_id", sa.String(255), nullable=False),
        sa.Column("live", sa.Boolean, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("subscription_id", sa.String(255)),
        sa.Column("begun_at", _MOMENT),
        sa.Column("status", sa.String(32)),
        sa.Column("latest_invoice", sa.String(255)),
        sa.Column("period_ends_at", _MOMENT),
        sa.Column("cancels_at", _MOMENT),
        sa.Column("told_at", _MOMENT),
        sa.Column("told_rank", sa.Integer, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="fk_billing_customers_tenant_id"),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_billing_customers"),
        sa.UniqueConstraint("customer_id", name="uq_billing_customers_customer_id"),
    )
    op.create_table(
        "billing_events",
        sa.Column("event_id", sa.String(255), nullable=False),
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_billing_events"),
    )
    op.create_index("ix_billing_events_tenant_id", "billing_events", ["tenant_id"])
    op.create_index("ix_billing_events_received_at", "billing_events", ["received_at"])


def downgrade() -> None:
    """Forget who is whose customer."""
    for table in ("billing_events", "billing_customers"):
        op.drop_table(table)
