"""Finds the days that have not passed without reading those that have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_UNSETTLED = sa.text("state <> 'passed'")


def upgrade() -> None:
    """Make the index."""
    op.create_index(
        "ix_day_states_unsettled",
        "day_states",
        ["tenant_id", "day"],
        sqlite_where=_UNSETTLED,
        postgresql_where=_UNSETTLED,
    )


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_day_states_unsettled", "day_states")
