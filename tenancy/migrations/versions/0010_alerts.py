"""What operators are told by mail and webhook, and the watermarks that tell what is stale."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; what waits now has waited since its hint was last renewed, as far as anybody knows."""
    op.add_column("staged_hints", sa.Column("since", sa.DateTime(timezone=True)))
    op.execute("UPDATE staged_hints SET since = updated_at")
    op.create_table(
        "watermarks",
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("landed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("quarantine_day", sa.Date),
        sa.Column("quarantined", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_watermarks"),
    )
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.String(40), nullable=False),
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(240), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cleared_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("alert_id", name="pk_alerts"),
    )
    op.create_index("ix_alerts_raised_at", "alerts", ["raised_at"])
    not_cleared = sa.text("cleared_at IS NULL")
    op.create_index(
        "uq_alerts_open",
        "alerts",
        ["kind", "tenant_id", "subject"],
        unique=True,
        sqlite_where=not_cleared,
        postgresql_where=not_cleared,
    )
    op.create_table(
        "alert_notices",
        sa.Column("alert_id", sa.String(40), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("alert_id", "channel", "state", name="pk_alert_notices"),
    )


def downgrade() -> None:
    """Forget whom was told what."""
    op.drop_table("alert_notices")
    op.drop_table("alerts")
    op.drop_table("watermarks")
    op.drop_column("staged_hints", "since")
