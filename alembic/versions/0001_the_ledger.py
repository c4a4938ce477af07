"""The ledger: documents, jobs, batches, failures, the listings of running jobs, and the collections.

What it does to a running system: it makes new tables, and locks nothing.
"""

import sqlalchemy as sa

from alembic import op
from orchestrator.ledger.clock import UTCDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "collections",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("store", sa.String(length=32), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("created_at", UTCDateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_collections")),
    )
    op.create_table(
        "documents",
        sa.Column("collection", sa.String(length=63), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.String(length=40), nullable=False),
        sa.Column("body_hash", sa.String(length=40), nullable=False),
        sa.Column("fingerprint", sa.String(length=40), nullable=False),
        sa.Column("stamp", sa.Text(), nullable=True),
        sa.Column("alias_of", sa.Text(), nullable=True),
        sa.Column("node_count", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("updated_at", UTCDateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=False),
        sa.PrimaryKeyConstraint("collection", "id", name=op.f("pk_documents")),
    )
    op.create_index("ix_documents_collection_body_hash", "documents", ["collection", "body_hash"], unique=False)
    op.create_index(
        "ix_documents_alias",
        "documents",
        ["collection", "alias_of"],
        unique=False,
        postgresql_where=sa.text("alias_of IS NOT NULL"),
        sqlite_where=sa.text("alias_of IS NOT NULL"),
    )

    op.create_table(
        "jobs",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(always=False), nullable=False
        ),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("collection", sa.String(length=63), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("fingerprint", sa.String(length=40), nullable=False),
        sa.Column("strategy", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("scope", sa.Text(), server_default="", nullable=False),
        sa.Column("may_delete", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("seen", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unchanged", sa.Integer(), server_default="0", nullable=False),
        sa.Column("duplicate", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deleted", sa.Integer(), server_default="0", nullable=False),
        sa.Column("nodes_deleted", sa.Integer(), server_default="0", nullable=False),
        sa.Column("batches_total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("heartbeat_at", UTCDateTime(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("listed_at", UTCDateTime(), nullable=True),
        sa.Column("finished_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_jobs")),
        sa.UniqueConstraint("id"),
    )
    op.create_index(
        "ix_jobs_open",
        "jobs",
        ["number"],
        unique=False,
        postgresql_where=sa.text("state IN ('enqueuing', 'running', 'cancelling')"),
        sqlite_where=sa.text("state IN ('enqueuing', 'running', 'cancelling')"),
    )

    op.create_table(
        "batches",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("documents", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("strikes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("owner", sa.String(length=100), nullable=True),
        sa.Column("heartbeat_at", UTCDateTime(), nullable=True),
        sa.Column("retry_at", UTCDateTime(), nullable=True),
        sa.Column("published_at", UTCDateTime(), nullable=True),
        sa.Column("started_at", UTCDateTime(), nullable=True),
        sa.Column("transformed_at", UTCDateTime(), nullable=True),
        sa.Column("finished_at", UTCDateTime(), nullable=True),
        sa.Column("documents_new", sa.Integer(), server_default="0", nullable=False),
        sa.Column("documents_changed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("documents_failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("documents_duplicate", sa.Integer(), server_default="0", nullable=False),
        sa.Column("nodes_upserted", sa.Integer(), server_default="0", nullable=False),
        sa.Column("nodes_removed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tokens_embedding", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tokens_prompt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tokens_completion", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cache_hits", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cache_misses", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_batches")),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Payloads are compressed already: Postgres need not try again.
        op.execute("ALTER TABLE batches ALTER COLUMN payload SET STORAGE EXTERNAL")
    op.create_index(
        "ix_batches_open",
        "batches",
        ["job_id", "state", "number"],
        unique=False,
        postgresql_where=sa.text("state IN ('pending', 'waiting', 'running', 'retrying', 'transformed')"),
        sqlite_where=sa.text("state IN ('pending', 'waiting', 'running', 'retrying', 'transformed')"),
    )

    op.create_table(
        "failures",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(always=False), nullable=False
        ),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("document_id", sa.Text(), nullable=False),
        sa.Column("stage", sa.String(length=32), nullable=False),
        sa.Column("transformation", sa.String(length=200), nullable=True),
        sa.Column("error", sa.String(length=200), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_failures")),
    )
    op.create_index("ix_failures_job_id", "failures", ["job_id"], unique=False)

    op.create_table(
        "listings",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("document_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "document_id", name=op.f("pk_listings")),
    )


def downgrade() -> None:
    for table in ("failures", "listings", "batches", "jobs", "documents", "collections"):
        op.drop_table(table)
