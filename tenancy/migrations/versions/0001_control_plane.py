"""Tenants, tokens, hosts and their credentials, epochs, key prints, leases, day states, hints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make every table of the first version."""
    op.create_table(
        "tenants",
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("subscription", sa.String(16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenants"),
    )
    op.create_table(
        "enrollment_tokens",
        sa.Column("token_id", sa.String(40), nullable=False),
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("token_hmac", sa.String(64), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("last_four", sa.String(4), nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT),
        sa.Column("uses", sa.Integer, nullable=False),
        sa.Column("max_uses", sa.Integer),
        sa.Column("revoked_at", MOMENT),
        sa.Column("last_used_at", MOMENT),
        sa.PrimaryKeyConstraint("token_id", name="pk_enrollment_tokens"),
        sa.UniqueConstraint("token_hmac", name="uq_enrollment_tokens_token_hmac"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="fk_enrollment_tokens_tenant_id"),
    )
    op.create_index("ix_enrollment_tokens_tenant_id", "enrollment_tokens", ["tenant_id"])
    op.create_table(
        "hosts",
        sa.Column("agent_id", sa.String(40), nullable=False),
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("token_id", sa.String(40), nullable=False),
        sa.Column("hostname", sa.Text, nullable=False),
        sa.Column("boot_id", sa.Text, nullable=False),
        sa.Column("agent_version", sa.Text, nullable=False),
        sa.Column("host", sa.JSON, nullable=False),
        sa.Column("enrolled_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT),
        sa.PrimaryKeyConstraint("agent_id", name="pk_hosts"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="fk_hosts_tenant_id"),
        sa.ForeignKeyConstraint(["token_id"], ["enrollment_tokens.token_id"], name="fk_hosts_token_id"),
    )
    op.create_index("ix_hosts_tenant_id", "hosts", ["tenant_id"])
    op.create_index("ix_hosts_token_id", "hosts", ["token_id"])
    op.create_table(
        "host_credentials",
        sa.Column("token_hmac", sa.String(64), nullable=False),
        sa.Column("agent_id", sa.String(40), nullable=False),
        sa.Column("last_four", sa.String(4), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT),
        sa.PrimaryKeyConstraint("token_hmac", name="pk_host_credentials"),
        sa.ForeignKeyConstraint(["agent_id"], ["hosts.agent_id"], name="fk_host_credentials_agent_id"),
    )
    op.create_index("ix_host_credentials_agent_id", "host_credentials", ["agent_id"])
    epochs = op.create_table(
        "epochs",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_epochs"),
    )
    op.bulk_insert(epochs, [{"name": "revocation", "value": 0}])
    op.create_table(
        "key_prints",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("print", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_key_prints"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("holder", sa.Text),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("ttl_s", sa.Float, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "day_states",
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "day", name="pk_day_states"),
    )
    op.create_index("ix_day_states_day", "day_states", ["day"])
    op.create_table(
        "staged_hints",
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("node", sa.String(64), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "node", name="pk_staged_hints"),
    )
    op.create_index("ix_staged_hints_updated_at", "staged_hints", ["updated_at"])


def downgrade() -> None:
    """Refuse: the first version has nothing before it but an empty file."""
    raise NotImplementedError("there is no version before the first")
