"""Up to which of its versions a day is sealed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the column: no day was sealed before."""
    op.add_column("day_states", sa.Column("sealed_version", sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    """Forget which days are sealed: their files still say it."""
    op.drop_column("day_states", "sealed_version")
