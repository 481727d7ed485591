"""The KMS key that is a tenant's own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the column, empty, and no key the key of two."""
    op.add_column("tenants", sa.Column("kms_key", sa.Text))
    op.create_index("uq_tenants_kms_key", "tenants", ["kms_key"], unique=True)


def downgrade() -> None:
    """Forget whose the keys are."""
    op.drop_index("uq_tenants_kms_key", "tenants")
    op.drop_column("tenants", "kms_key")
