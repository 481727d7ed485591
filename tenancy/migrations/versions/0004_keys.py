"""Keys that are rows, wrapped, and tokens that are sealed with them beside their index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
SEALING = ("enrollment_tokens", "host_credentials")


def upgrade() -> None:
    """Make the table of keys; what was made before stays unsealed until it is used."""
    keys = op.create_table(
        "keys",
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("wrapped_by", sa.Text, nullable=False),
        sa.Column("wrapped", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("retired_at", MOMENT),
        sa.PrimaryKeyConstraint("key_id", name="pk_keys"),
    )
    current = keys.c.retired_at.is_(None)
    op.create_index("uq_keys_current", "keys", ["purpose"], unique=True, sqlite_where=current, postgresql_where=current)
    for table in SEALING:
        op.add_column(table, sa.Column("sealed", sa.Text))
        op.add_column(table, sa.Column("sealed_with", sa.String(40)))
        op.create_index(f"ix_{table}_sealed_with", table, ["sealed_with"])


def downgrade() -> None:
    """Refuse: without its keys every token would be unknown."""
    raise NotImplementedError("keys are not dropped")
