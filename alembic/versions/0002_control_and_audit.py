"""Control and audit: jobs that pause and have a priority, failures that can be retried, nodes that can be checked.

What it does to a running system: adds columns without rewriting tables; each ALTER takes an exclusive lock for an
instant. Documents committed before it have no `nodes_hash`, and are checked by their number of nodes alone.
"""

import sqlalchemy as sa

from alembic import op
from orchestrator.ledger.clock import UTCDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ADDED = {
    "jobs": ("paused", "priority"),
    "documents": ("nodes_hash",),
    "failures": ("collection", "payload", "resolved_at"),
}


def upgrade() -> None:
    op.add_column("jobs", sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("jobs", sa.Column("priority", sa.String(length=8), server_default="normal", nullable=False))
    op.add_column("documents", sa.Column("nodes_hash", sa.String(length=40), nullable=True))
    op.add_column("failures", sa.Column("collection", sa.String(length=63), server_default="", nullable=False))
    op.add_column("failures", sa.Column("payload", sa.LargeBinary(), nullable=True))
    op.add_column("failures", sa.Column("resolved_at", UTCDateTime(), nullable=True))
    op.create_index(
        "ix_failures_unresolved",
        "failures",
        ["collection", "document_id"],
        postgresql_where=sa.text("resolved_at IS NULL"),
        sqlite_where=sa.text("resolved_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_failures_unresolved", "failures")
    for table, columns in _ADDED.items():
        for column in columns:
            op.drop_column(table, column)
