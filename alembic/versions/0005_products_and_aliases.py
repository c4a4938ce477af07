"""Products and aliases: nodes that no vector store takes, and aliases that can take the place of their first document.

What it does to a running system: adds a table, and a column without rewriting its table; the ALTER takes an exclusive
lock for an instant. Aliases recorded before it have no payload: they are new at the next ingestion, as they were.
"""

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("documents", sa.Column("payload", sa.LargeBinary(), nullable=True))
    op.create_table(
        "products",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("document_id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("nodes", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "document_id", name=op.f("pk_products")),
    )
    op.create_index("ix_products_job_id_sequence", "products", ["job_id", "sequence"])


def downgrade() -> None:
    op.drop_table("products")
    op.drop_column("documents", "payload")
