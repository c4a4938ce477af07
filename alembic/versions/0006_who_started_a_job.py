"""Who started a job: shown where jobs are listed.

What it does to a running system: adds a column without rewriting its table; the ALTER takes an exclusive lock for an
instant. Jobs from before it do not say who started them.
"""

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("started_by", sa.String(length=200), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "started_by")
