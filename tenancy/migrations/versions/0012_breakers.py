"""How services fare that every process shares: the model that words summaries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tenancy.metadata import UtcDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; every service counts as well until it fails."""
    op.create_table(
        "breakers",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("open_until", UtcDateTime),
        sa.Column("changed_at", UtcDateTime, nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("breakers")
