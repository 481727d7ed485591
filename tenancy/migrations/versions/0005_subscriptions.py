"""Dates and limits of subscriptions, and what tenants send a day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the columns, empty: nobody's trial gets an end that nobody set, and that no audit record tells of."""
    op.add_column("tenants", sa.Column("subscription_since", MOMENT))
    op.add_column("tenants", sa.Column("trial_ends_at", MOMENT))
    op.add_column("tenants", sa.Column("grace_ends_at", MOMENT))
    op.add_column("tenants", sa.Column("max_hosts", sa.Integer))
    op.add_column("tenants", sa.Column("max_daily_events", sa.BigInteger))
    op.create_table(
        "tenant_use",
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "day", name="pk_tenant_use"),
    )


def downgrade() -> None:
    """Forget dates, limits and use."""
    op.drop_table("tenant_use")
    for name in ("max_daily_events", "max_hosts", "grace_ends_at", "trial_ends_at", "subscription_since"):
        op.drop_column("tenants", name)
