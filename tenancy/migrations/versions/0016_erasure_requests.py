"""What tenants' Admins asked to have erased."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "erasure_requests",
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("requested_by", sa.String(40), nullable=False),
        sa.Column("requested_at", _MOMENT, nullable=False),
        sa.Column("due_at", _MOMENT, nullable=False),
        sa.Column("code_digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_erasure_requests"),
        sa.UniqueConstraint("code_digest", name="uq_erasure_requests_code_digest"),
    )


def downgrade() -> None:
    """Forget what was asked for."""
    op.drop_table("erasure_requests")
