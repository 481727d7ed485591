"""The audit chain, whom its numbers stand for, and when a host's credential was used first and last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the chain's tables."""
    op.create_table(
        "people",
        sa.Column("person_id", sa.String(40), nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("person_id", name="pk_people"),
        sa.UniqueConstraint("name", name="uq_people_name"),
    )
    op.create_table(
        "audit_heads",
        sa.Column("chain", sa.String(40), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("chain", name="pk_audit_heads"),
    )
    op.create_table(
        "audit_records",
        sa.Column("chain", sa.String(40), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("chain", "seq", name="pk_audit_records"),
    )
    op.add_column("host_credentials", sa.Column("first_used_at", MOMENT))
    op.add_column("host_credentials", sa.Column("last_used_at", MOMENT))


def downgrade() -> None:
    """Refuse: a chain that can be dropped proves nothing."""
    raise NotImplementedError("the audit chain is not dropped")
