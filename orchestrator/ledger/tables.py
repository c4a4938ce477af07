"""The ledger's tables. Made and changed only by the migrations in alembic/; `alembic check` holds the two together."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

from orchestrator.ledger.clock import UTCDateTime, now

__all__ = [
    "REVISION",
    "batches",
    "collections",
    "documents",
    "failures",
    "jobs",
    "listings",
    "metadata",
    "payments",
    "products",
]

REVISION = "0006"  # of the newest migration, which makes these tables

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"},
)

_Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up INTEGER keys only
_OPEN_BATCH = text("state IN ('pending', 'waiting', 'running', 'retrying', 'transformed')")
_UNRESOLVED = text("resolved_at IS NULL")
_ALIAS = text("alias_of IS NOT NULL")
_OPEN_JOB = text("state IN ('enqueuing', 'running', 'cancelling')")

documents = Table(
    "documents",
    metadata,
    Column("collection", String(63), primary_key=True),
    Column("id", Text, primary_key=True),
    Column("content_hash", String(40), nullable=False),  # what the document says: body and metadata
    Column("body_hash", String(40), nullable=False),  # the body alone: names duplicates
    Column("fingerprint", String(40), nullable=False),  # what was done to it
    Column("stamp", Text),  # of the file: the gate that spares reading it; NULL where it says nothing
    Column("alias_of", Text),  # the document with the same body whose nodes stand for this one
    Column("node_count", Integer, nullable=False),
    Column("nodes_hash", String(40)),  # over the ids of its nodes, in order: what the vector store must hold
    Column("version", BigInteger, nullable=False),  # order of enqueuing: an older commit changes nothing
    Column("job_id", String(32), nullable=False),  # the job that wrote this row
    Column("payload", LargeBinary),  # of an alias: the document, compressed, to take the first's place one day
    Column("updated_at", UTCDateTime, nullable=False, server_default=text("CURRENT_TIMESTAMP")),
    Index("ix_documents_collection_body_hash", "collection", "body_hash"),
    Index("ix_documents_alias", "collection", "alias_of", postgresql_where=_ALIAS, sqlite_where=_ALIAS),
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", _Number, Identity(), primary_key=True),  # order of enqueuing
    Column("id", String(32), nullable=False, unique=True),
    Column("collection", String(63), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("fingerprint", String(40), nullable=False),
    Column("strategy", String(32), nullable=False),
    Column("state", String(32), nullable=False),
    Column("error", Text),  # why the job itself failed
    Column("paused", Boolean, nullable=False, server_default=text("false")),  # no batch is begun meanwhile
    Column("priority", String(8), nullable=False, server_default="normal"),  # high, normal or low
    Column("started_by", String(200)),  # who enqueued it; NULL: it was before 0006
    Column("scope", Text, nullable=False, server_default=""),  # id prefix within which documents may vanish
    Column("may_delete", Boolean, nullable=False, server_default=text("false")),  # listing complete, guard passed
    Column("seen", Integer, nullable=False, server_default="0"),
    Column("unchanged", Integer, nullable=False, server_default="0"),
    Column("duplicate", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),  # refused before a batch was made
    Column("deleted", Integer, nullable=False, server_default="0"),
    Column("nodes_deleted", Integer, nullable=False, server_default="0"),
    Column("batches_total", Integer, nullable=False, server_default="0"),
    Column("heartbeat_at", UTCDateTime, nullable=False),  # of the client that enqueues
    Column("created_at", UTCDateTime, nullable=False),
    Column("listed_at", UTCDateTime),  # the source was read to its end
    Column("finished_at", UTCDateTime),
    Index("ix_jobs_open", "number", postgresql_where=_OPEN_JOB, sqlite_where=_OPEN_JOB),
)

batches = Table(
    "batches",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reason", Text),  # why it is retried, halved or failed
    Column("payload", LargeBinary),  # its documents, compressed; dropped by the commit
    Column("documents", Integer, nullable=False),
    Column("weight", Integer, nullable=False),  # bytes of its documents
    Column("attempt", Integer, nullable=False, server_default="0"),  # leases given: the fencing token
    Column("strikes", Integer, nullable=False, server_default="0"),  # attempts that failed or died
    Column("retries", Integer, nullable=False, server_default="0"),  # attempts that met a passing trouble
    Column("owner", String(100)),  # of the running lease
    Column("heartbeat_at", UTCDateTime),
    Column("retry_at", UTCDateTime),
    Column("published_at", UTCDateTime),
    Column("first_started_at", UTCDateTime),  # by its first lease; halves have it from the batch they come from
    Column("started_at", UTCDateTime),
    Column("transformed_at", UTCDateTime),
    Column("finished_at", UTCDateTime),
    Column("documents_new", Integer, nullable=False, server_default="0"),
    Column("documents_changed", Integer, nullable=False, server_default="0"),
    Column("documents_failed", Integer, nullable=False, server_default="0"),
    Column("documents_duplicate", Integer, nullable=False, server_default="0"),  # superseded, or an alias
    Column("nodes_upserted", Integer, nullable=False, server_default="0"),
    Column("nodes_removed", Integer, nullable=False, server_default="0"),
    Column("cache_hits", Integer, nullable=False, server_default="0"),
    Column("cache_misses", Integer, nullable=False, server_default="0"),
    Index("ix_batches_open", "job_id", "state", "number", postgresql_where=_OPEN_BATCH, sqlite_where=_OPEN_BATCH),
)

# What each attempt spent, also one that failed or lost its lease. An attempt is counted once, however often it says so.
payments = Table(
    "payments",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("batch", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),  # of the lease
    Column("model", Text, primary_key=True),  # by its registered name
    Column("transformation", Text, primary_key=True),  # that asked for it
    Column("estimated", Boolean, primary_key=True),  # counted by us, not reported by the provider
    Column("embedding", BigInteger, nullable=False),  # tokens
    Column("prompt", BigInteger, nullable=False),
    Column("completion", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),  # of the prompt: those that the provider had in its own cache
)

failures = Table(
    "failures",
    metadata,
    Column("id", _Number, Identity(), primary_key=True),
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("document_id", Text, nullable=False),  # shortened where the id itself is what is wrong
    Column("stage", String(32), nullable=False),  # read, dedupe, parse, transform, embed, commit, delete
    Column("transformation", String(200)),
    Column("error", String(200), nullable=False),  # class of the error
    Column("message", Text, nullable=False),
    Column("traceback", Text),
    Column("attempts", Integer, nullable=False, server_default="1"),
    Column("created_at", UTCDateTime, nullable=False, default=now()),  # when it was given up
    Column("first_at", UTCDateTime),  # when it was first tried, where a worker did
    Column("collection", String(63), nullable=False, server_default=""),
    Column("payload", LargeBinary),  # the document, compressed, so that it can be tried again
    Column("resolved_at", UTCDateTime),  # when the document was ingested after all
    Index(
        "ix_failures_unresolved",
        "collection",
        "document_id",
        postgresql_where=_UNRESOLVED,
        sqlite_where=_UNRESOLVED,
    ),
)

# Every id a source listed, kept until the job ends: what is not in it has vanished.
listings = Table(
    "listings",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("document_id", Text, primary_key=True),
)

# The nodes of jobs without a vector store, document by document, kept with the job.
products = Table(
    "products",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("document_id", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),  # the document's place in the job
    Column("nodes", LargeBinary, nullable=False),
    Index("ix_products_job_id_sequence", "job_id", "sequence"),
)

# What the collections of the vector stores hold: one model and one dimension each.
collections = Table(
    "collections",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("store", String(32), nullable=False),
    Column("model", Text, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("created_at", UTCDateTime, nullable=False, server_default=text("CURRENT_TIMESTAMP")),
)
