"""Payments: what each attempt at a batch spent, by model and transformation, in place of three sums a batch.

What it does to a running system: it makes a table, copies the sums of all batches into it, and drops their columns
without rewriting the table, for an instant under an exclusive lock. Workers from before it write to the columns that
go: stop them first. (No release had them; else they would go one release later.) The copied sums name neither model nor
transformation, and say nothing about estimates.
"""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TOKENS = ("embedding", "prompt", "completion")


def upgrade() -> None:
    op.create_table(
        "payments",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("transformation", sa.Text(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("embedding", sa.BigInteger(), nullable=False),
        sa.Column("prompt", sa.BigInteger(), nullable=False),
        sa.Column("completion", sa.BigInteger(), nullable=False),
        sa.Column("cached", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint(
            "job_id", "batch", "attempt", "model", "transformation", "estimated", name=op.f("pk_payments")
        ),
    )
    op.execute(
        "INSERT INTO payments "
        "SELECT job_id, number, 0, '', '', false, tokens_embedding, tokens_prompt, tokens_completion, 0 FROM batches "
        "WHERE tokens_embedding + tokens_prompt + tokens_completion > 0"
    )
    for name in _TOKENS:
        op.drop_column("batches", f"tokens_{name}")


def downgrade() -> None:
    for name in _TOKENS:
        op.add_column("batches", sa.Column(f"tokens_{name}", sa.BigInteger(), server_default="0", nullable=False))
        op.execute(
            f"UPDATE batches SET tokens_{name} = coalesce((SELECT sum({name}) FROM payments "  # noqa: S608 - names above
            "WHERE payments.job_id = batches.job_id AND payments.batch = batches.number), 0)"
        )
    op.drop_table("payments")
