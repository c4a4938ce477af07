"""Reports and progress of jobs: sums over their batch rows, which no redelivery can change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, func, select

from orchestrator.contracts.errors import JobNotFound
from orchestrator.contracts.report import (
    BatchCounts,
    BatchState,
    CacheCounts,
    DocumentCounts,
    JobState,
    NodeCounts,
    Report,
    TokenCounts,
)
from orchestrator.contracts.spec import PipelineSpec
from orchestrator.ledger import payments
from orchestrator.ledger.batches import OPEN_STATES
from orchestrator.ledger.clock import now
from orchestrator.ledger.tables import batches, jobs

__all__ = ["Progress", "progress", "report"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: batches by state, and the documents and nodes of those committed."""

    job_id: str
    state: JobState
    paused: bool
    seen: int
    settled: int  # documents that need no work, or whose work is done
    nodes: int
    tokens: int
    failed: int
    seconds: float  # since it was created, until now or its end
    workers: int  # processes that run its batches, or whose nodes wait for their commit
    batches: Mapping[BatchState, int]
    stalled: int  # running batches whose worker has not been heard of for a while
    reasons: Sequence[str]  # why batches are being retried, each said once


_SILENT_SECONDS = 10.0  # some heartbeats missed; soon the lease runs out


def _sum(name: str) -> Any:
    return func.coalesce(func.sum(batches.c[name]), 0).label(name)


_SUMS = (
    "documents_new",
    "documents_changed",
    "documents_failed",
    "documents_duplicate",
    "nodes_upserted",
    "nodes_removed",
    "cache_hits",
    "cache_misses",
)


def report(connection: Connection, job_id: str) -> Report:
    """The report of a job, finished or not: its own counts and the sums over its batches and payments.

    Raises:
        JobNotFound: there is none.
    """
    job = connection.execute(select(jobs, now().label("at")).where(jobs.c.id == job_id)).one_or_none()
    if job is None:
        raise JobNotFound(job_id)
    sums = connection.execute(
        select(
            *(_sum(name) for name in _SUMS),
            func.coalesce(func.sum(case((batches.c.attempt > 1, 1), else_=0)), 0).label("retried"),
        ).where(batches.c.job_id == job_id)
    ).one()
    bill = payments.bill(connection, job_id)
    has_store = PipelineSpec.model_validate(job.spec).vector_store is not None
    return Report(
        job_id=job_id,
        state=JobState(job.state),
        error=job.error,
        documents=DocumentCounts(
            seen=job.seen,
            new=sums.documents_new,
            changed=sums.documents_changed,
            unchanged=job.unchanged,
            duplicate=job.duplicate + sums.documents_duplicate,
            deleted=job.deleted,
            failed=job.failed + sums.documents_failed,
        ),
        nodes=NodeCounts(
            upserted=sums.nodes_upserted if has_store else 0,
            removed=sums.nodes_removed + job.nodes_deleted,
            produced=0 if has_store else sums.nodes_upserted,
        ),
        tokens=TokenCounts.of(bill),
        bill=tuple(bill),
        cache=CacheCounts(hits=sums.cache_hits, misses=sums.cache_misses),
        batches=BatchCounts(total=job.batches_total, retried=sums.retried),
        seconds=round(_age(job), 3),
    )


def _age(job: Any) -> float:
    """Seconds from a job's beginning to its end, or to now."""
    return float(((job.finished_at or job.at) - job.created_at).total_seconds())


def progress(connection: Connection, job_id: str) -> Progress:
    """How far a job is. Four queries over its own rows.

    Raises:
        JobNotFound: there is none.
    """
    job = connection.execute(select(jobs, now().label("at")).where(jobs.c.id == job_id)).one_or_none()
    if job is None:
        raise JobNotFound(job_id)
    rows = connection.execute(
        select(
            batches.c.state,
            func.count().label("batches"),
            func.sum(batches.c.documents).label("documents"),
            _sum("documents_failed"),
            _sum("nodes_upserted"),
            func.max(batches.c.reason).label("reason"),
        )
        .where(batches.c.job_id == job_id)
        .group_by(batches.c.state)
    ).all()
    is_silent = batches.c.heartbeat_at < now(-_SILENT_SECONDS)
    is_stalled = and_(is_silent, batches.c.state == BatchState.RUNNING)
    owners = connection.execute(
        select(
            func.count(case((is_silent, None), else_=batches.c.owner).distinct()).label("at_work"),
            func.count(case((is_stalled, 1))).label("stalled"),
        ).where(batches.c.job_id == job_id, batches.c.state.in_((BatchState.RUNNING, BatchState.TRANSFORMED)))
    ).one()
    ended = [row for row in rows if row.state in (BatchState.COMMITTED, BatchState.FAILED, BatchState.CANCELLED)]
    failed = job.failed + sum(row.documents_failed for row in rows)
    return Progress(
        job_id=job_id,
        state=JobState(job.state),
        paused=job.paused,
        seen=job.seen,
        settled=job.unchanged + job.duplicate + job.failed + sum(row.documents for row in ended),
        nodes=sum(row.nodes_upserted for row in rows),
        tokens=payments.spent(connection, job_id),
        failed=failed,
        seconds=_age(job),
        workers=owners.at_work,
        batches={BatchState(row.state): row.batches for row in rows},
        stalled=owners.stalled,
        reasons=list(dict.fromkeys(row.reason for row in rows if row.reason and row.state in OPEN_STATES)),
    )
