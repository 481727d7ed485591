"""Erasures: whose data was deleted, when, and how much of it there was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of erasures."""
    op.create_table(
        "erasures",
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("erasure_id", sa.String(40), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("begun_by", sa.String(40), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("found", sa.JSON, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("receipt", sa.String(64)),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_erasures"),
        sa.UniqueConstraint("erasure_id", name="uq_erasures_erasure_id"),
    )


def downgrade() -> None:
    """Forget every erasure."""
    op.drop_table("erasures")
