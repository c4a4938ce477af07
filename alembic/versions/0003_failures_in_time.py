"""Failures say when their document was first tried; batches know it from their first lease.

What it does to a running system: adds columns without rewriting tables; each ALTER takes an exclusive lock for an
instant. Failures written before it have no first time, and show the last in its place.
"""

import sqlalchemy as sa

from alembic import op
from orchestrator.ledger.clock import UTCDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("first_started_at", UTCDateTime(), nullable=True))
    op.add_column("failures", sa.Column("first_at", UTCDateTime(), nullable=True))


def downgrade() -> None:
    op.drop_column("failures", "first_at")
    op.drop_column("batches", "first_started_at")
