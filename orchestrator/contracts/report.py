"""The report: what one job did, as counts that add up."""

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

__all__ = ["TERMINAL_JOB_STATES", "BatchState", "BillLine", "JobState", "Report", "TokenCounts"]


class JobState(StrEnum):
    """Where a job stands."""

    ENQUEUING = "enqueuing"  # the client still reads the source
    RUNNING = "running"  # the ledger has everything; workers are at it
    CANCELLING = "cancelling"  # asked to stop; running batches are let go
    SUCCEEDED = "succeeded"
    SUCCEEDED_WITH_FAILURES = "succeeded_with_failures"  # some documents are in the failures table
    FAILED = "failed"  # the job itself broke: its source, or the client that read it
    CANCELLED = "cancelled"


TERMINAL_JOB_STATES = frozenset(
    {JobState.SUCCEEDED, JobState.SUCCEEDED_WITH_FAILURES, JobState.FAILED, JobState.CANCELLED}
)


class BatchState(StrEnum):
    """Where a batch stands."""

    PENDING = "pending"  # in the ledger; not published, the job's window is full
    WAITING = "waiting"  # published; waits for a worker
    RUNNING = "running"  # leased by a worker whose heartbeat is fresh
    RETRYING = "retrying"  # failed for a reason that may pass; runs again after a delay
    TRANSFORMED = "transformed"  # its nodes lie in Redis; waits to be committed
    COMMITTED = "committed"
    HALVED = "halved"  # failed as a whole; two smaller batches took over
    FAILED = "failed"  # its one document is in the failures table
    CANCELLED = "cancelled"


class DocumentCounts(BaseModel):
    """Documents by what became of them: seen = new + changed + unchanged + duplicate + failed, once a job ends."""

    model_config = ConfigDict(frozen=True)
    seen: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    duplicate: int = 0
    deleted: int = 0
    failed: int = 0


class NodeCounts(BaseModel):
    """Nodes written to, and removed from, the vector store; without one, those produced for `job.nodes()`."""

    model_config = ConfigDict(frozen=True)
    upserted: int = 0
    removed: int = 0
    produced: int = 0


class TokenCounts(BaseModel):
    """Tokens paid for: what came from the cache is not in here.

    Attributes:
        cached: how many of `prompt` the provider had in its own cache, and bills at a lower price.
        estimated: how many of all were counted by us, because the provider did not report them.
    """

    model_config = ConfigDict(frozen=True)
    embedding: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    estimated: int = 0

    @classmethod
    def of(cls, lines: Iterable["TokenCounts"]) -> "TokenCounts":
        """The sum of a bill."""
        summed = list(lines)
        return cls(**{name: sum(getattr(line, name) for line in summed) for name in cls.model_fields})


class BillLine(TokenCounts):
    """Tokens paid to one model for one transformation."""

    transformation: str
    model: str


class CacheCounts(BaseModel):
    """Look-ups in the ingestion cache."""

    model_config = ConfigDict(frozen=True)
    hits: int = 0
    misses: int = 0


class BatchCounts(BaseModel):
    """Batches of the job, and how many of them needed more than one attempt."""

    model_config = ConfigDict(frozen=True)
    total: int = 0
    retried: int = 0


class Report(BaseModel):
    """What one job did. Totals are sums over the ledger's batch rows, so redelivery cannot change them."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    state: JobState
    error: str | None = None
    documents: DocumentCounts = DocumentCounts()
    nodes: NodeCounts = NodeCounts()
    tokens: TokenCounts = TokenCounts()
    bill: tuple[BillLine, ...] = ()  # the same tokens, by who was paid for what
    cache: CacheCounts = CacheCounts()
    batches: BatchCounts = BatchCounts()
    seconds: float = 0.0
