"""What is done about findings, and to whom summaries go and when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tenancy.metadata import UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _tenant(*, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(
        "tenant_id", sa.String(40), sa.ForeignKey("tenants.tenant_id"), nullable=False, primary_key=primary_key
    )


def upgrade() -> None:
    """Make the tables; nobody gets mail, and no model words anything, before somebody says so."""
    op.create_table(
        "finding_suppressions",
        sa.Column("suppression_id", sa.String(40), primary_key=True),
        _tenant(),
        sa.Column("rule", sa.String(64), nullable=False),
        sa.Column("agent_id", sa.String(40)),
        sa.Column("exe", sa.Text),
        sa.Column("user", sa.Text),
        sa.Column("path_prefix", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("expires_on", sa.Date, nullable=False),
        sa.Column("created_by", sa.String(40), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("ended_at", UtcDateTime),
    )
    op.create_table(
        "finding_closings",
        sa.Column("closing_id", sa.String(40), primary_key=True),
        _tenant(),
        sa.Column("finding_id", sa.String(40), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("closed_by", sa.String(40), nullable=False),
        sa.Column("closed_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "summary_schedules",
        _tenant(primary_key=True),
        sa.Column("daily", sa.Boolean, nullable=False),
        sa.Column("weekly", sa.Boolean, nullable=False),
        sa.Column("time_zone", sa.String(64), nullable=False),
        sa.Column("hour", sa.Integer, nullable=False),
        sa.Column("model", sa.Boolean, nullable=False),
    )
    op.create_table(
        "summary_recipients",
        sa.Column("recipient_id", sa.String(40), primary_key=True),
        _tenant(),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("code_digest", sa.String(64), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("confirmed_at", UtcDateTime),
        sa.Column("ended_at", UtcDateTime),
        sa.Column("bounces", sa.Integer, nullable=False),
    )
    recipient = sa.ForeignKey("summary_recipients.recipient_id")
    op.create_table(
        "summary_mails",
        sa.Column("recipient_id", sa.String(40), recipient, primary_key=True),
        sa.Column("period", sa.String(8), primary_key=True),
        sa.Column("period_start", sa.Date, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        _tenant(),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("error", sa.String(64)),
        sa.Column("due_at", UtcDateTime, nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
    )
    for table in ("finding_suppressions", "finding_closings", "summary_recipients", "summary_mails"):
        op.create_index(f"ix_{table}_tenant_id", table, ["tenant_id"])


def downgrade() -> None:
    """Drop them."""
    for table in (
        "summary_mails", "summary_recipients", "summary_schedules", "finding_closings", "finding_suppressions",
    ):  # fmt: skip
        op.drop_table(table)
