"""How long a tenant's days are kept, where that was agreed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the column, empty: days are kept as long as the tenant is."""
    op.add_column("tenants", sa.Column("keep_days", sa.Integer))


def downgrade() -> None:
    """Forget what was agreed."""
    op.drop_column("tenants", "keep_days")
