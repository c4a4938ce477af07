"""Messages: what travels over the broker. Ids and numbers alone, checked on arrival; the ledger has the rest."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "COMMIT",
    "FINISH",
    "OPTIMIZE",
    "RECONCILE",
    "TRANSFORM",
    "CommitMessage",
    "FinishMessage",
    "OptimizeMessage",
    "Priority",
    "TransformMessage",
    "job_channel",
]

# Task names are part of the wire format: workers of two releases may meet on one broker.
TRANSFORM = "docmill.transform"
COMMIT = "docmill.commit"
FINISH = "docmill.finish"
OPTIMIZE = "docmill.optimize"
RECONCILE = "docmill.reconcile"


class Priority(StrEnum):
    """Whose batches workers take first, of several jobs that wait."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"  # on RabbitMQ's quorum queues the same as normal: they know two priorities


JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
BatchNumber = Annotated[int, Field(ge=0, lt=2**31)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    job: JobId


class TransformMessage(_Message):
    """Run one batch."""

    batch: BatchNumber


class CommitMessage(_Message):
    """Commit a segment: batches whose nodes lie in Redis."""

    batches: tuple[BatchNumber, ...] = Field(min_length=1, max_length=10_000)


class FinishMessage(_Message):
    """Finish the job: remove what vanished, then close it."""


class OptimizeMessage(_Message):
    """Index the collection of a job that has ended."""


def job_channel(job_id: str) -> str:
    """The pub/sub channel on which waiters of a job are told that something changed."""
    return f"docmill:{{{job_id}}}:events"
