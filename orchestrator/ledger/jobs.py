"""Jobs: created when enqueuing starts, finished once, reported from sums over their batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, case, delete, exists, func, insert, select, update

from orchestrator.contracts.errors import JobNotFound
from orchestrator.contracts.report import (
    TERMINAL_JOB_STATES,
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
from orchestrator.ledger.batches import OPEN_STATES
from orchestrator.ledger.clock import now
from orchestrator.ledger.documents import vanished_count
from orchestrator.ledger.failures import Failure, record
from orchestrator.ledger.statements import insert_into
from orchestrator.ledger.storable import storable
from orchestrator.ledger.tables import batches, documents, failures, jobs, listings

__all__ = [
    "Finish",
    "JobRow",
    "Progress",
    "abort",
    "add_deleted",
    "add_listing",
    "add_seen",
    "beat",
    "cancel",
    "cancel_batches",
    "close_listing",
    "create",
    "fail",
    "finish",
    "get",
    "has_rivals",
    "progress",
    "recent",
    "refuse",
    "report",
]

_OPEN = (JobState.ENQUEUING, JobState.RUNNING, JobState.CANCELLING)


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as it stands in the ledger."""

    number: int
    id: str
    collection: str
    spec: PipelineSpec
    state: JobState
    error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: batches by state, and the documents and nodes of those committed."""

    state: JobState
    seen: int
    settled: int  # documents that need no work, or whose work is done
    nodes: int
    tokens: int
    failed: int
    batches: Mapping[BatchState, int]
    reasons: Sequence[str]  # why batches are being retried, each said once


class Finish(StrEnum):
    """What became of an attempt to finish a job."""

    DONE = "done"  # this call finished it
    BEFORE = "before"  # somebody else had
    OPEN = "open"  # there are batches to do, or the source is still read
    DELETE = "delete"  # vanished documents are to be removed first, which takes a worker


def create(connection: Connection, job_id: str, spec: PipelineSpec, *, scope: str = "") -> JobRow:
    """Begin a job, in state `enqueuing`."""
    connection.execute(
        insert(jobs).values(
            id=job_id,
            collection=spec.collection,
            spec=spec.model_dump(mode="json"),
            fingerprint=spec.fingerprint,
            strategy=spec.strategy,
            state=JobState.ENQUEUING,
            scope=scope,
            created_at=now(),
            heartbeat_at=now(),
        )
    )
    return get(connection, job_id)


def get(connection: Connection, job_id: str) -> JobRow:
    """A job by its id.

    Raises:
        JobNotFound: there is none.
    """
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    return _job_row(row)


def _job_row(row: Mapping[Any, Any]) -> JobRow:
    return JobRow(
        number=row["number"],
        id=row["id"],
        collection=row["collection"],
        spec=PipelineSpec.model_validate(row["spec"]),
        state=JobState(row["state"]),
        error=row["error"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )


def recent(connection: Connection, limit: int = 20) -> list[JobRow]:
    """The latest jobs, newest first."""
    rows = connection.execute(select(jobs).order_by(jobs.c.number.desc()).limit(limit)).mappings()
    return [_job_row(row) for row in rows]


def has_rivals(connection: Connection, job: JobRow) -> bool:
    """Whether an older job of the same collection is still at work."""
    rivals = exists().where(jobs.c.collection == job.collection, jobs.c.number < job.number, jobs.c.state.in_(_OPEN))
    return bool(connection.execute(select(rivals)).scalar())


def add_seen(connection: Connection, job_id: str, *, seen: int, unchanged: int, duplicate: int) -> JobState:
    """Count a slice of the source; also the client's sign of life. Returns the job's state: it may be cancelled."""
    state = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            seen=jobs.c.seen + seen,
            unchanged=jobs.c.unchanged + unchanged,
            duplicate=jobs.c.duplicate + duplicate,
            heartbeat_at=now(),
        )
        .returning(jobs.c.state)
    ).scalar_one()
    return JobState(state)


def beat(connection: Connection, job_id: str) -> None:
    """The client still reads its source."""
    connection.execute(
        update(jobs).where(jobs.c.id == job_id, jobs.c.state == JobState.ENQUEUING).values(heartbeat_at=now())
    )


def add_listing(connection: Connection, job_id: str, ids: Sequence[str]) -> None:
    """Remember ids that the source listed."""
    if ids:
        connection.execute(
            insert_into(connection, listings).on_conflict_do_nothing(),
            [{"job_id": job_id, "document_id": id} for id in ids],
        )


def close_listing(connection: Connection, job_id: str, *, may_delete: bool) -> None:
    """The source was read to its end: what it did not list has vanished, and goes if `may_delete`."""
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.ENQUEUING)
        .values(state=JobState.RUNNING, listed_at=now(), may_delete=may_delete)
    )


def fail(connection: Connection, job_id: str, error: str) -> None:
    """The source broke, or its reader vanished: batches in the ledger are still done, nothing is deleted."""
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.ENQUEUING)
        .values(state=JobState.RUNNING, error=storable(error))
    )


def abort(connection: Connection, job_id: str, error: Exception) -> None:
    """The job cannot be done by anybody: its open batches fail, with one reason for all of them."""
    reason = storable(f"{type(error).__name__}: {error}")
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state.in_((JobState.ENQUEUING, JobState.RUNNING)))
        .values(state=JobState.RUNNING, error=reason)
    )
    ended: Any = connection.execute(
        update(batches)
        .where(batches.c.job_id == job_id, batches.c.state.in_(OPEN_STATES))
        .values(
            state=BatchState.FAILED,
            reason=reason,
            payload=None,
            finished_at=now(),
            documents_failed=batches.c.documents,
        )
    )
    if ended.rowcount:
        record(connection, job_id, [Failure.of("*", error, stage="transform")])


def cancel(connection: Connection, job_id: str) -> JobState:
    """Ask a job to stop; its batches that no worker runs end at once. Asking again changes nothing.

    Raises:
        JobNotFound: there is none.
    """
    get(connection, job_id)
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state.in_((JobState.ENQUEUING, JobState.RUNNING)))
        .values(state=JobState.CANCELLING)
    )
    cancel_batches(connection, job_id)
    return get(connection, job_id).state


def cancel_batches(connection: Connection, job_id: str) -> None:
    """End the open batches of a job that is being cancelled."""
    cancelling = exists().where(jobs.c.id == job_id, jobs.c.state == JobState.CANCELLING)
    connection.execute(
        update(batches)
        .where(batches.c.job_id == job_id, batches.c.state.in_(OPEN_STATES), cancelling)
        .values(state=BatchState.CANCELLED, payload=None, finished_at=now())
    )


def finish(connection: Connection, job_id: str) -> Finish:
    """Finish the job if nothing of it is open. Whoever calls it, and however often, it is finished once."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    if row.state in TERMINAL_JOB_STATES:
        return Finish.BEFORE
    is_open = exists().where(batches.c.job_id == job_id, batches.c.state.in_(OPEN_STATES))
    if row.state == JobState.ENQUEUING or connection.execute(select(is_open)).scalar():
        return Finish.OPEN
    cancelled = row.state == JobState.CANCELLING
    if row.may_delete and not cancelled and not row.error and vanished_count(connection, job_id)[0]:
        return Finish.DELETE
    if cancelled:
        state = JobState.CANCELLED
    elif row.error:
        state = JobState.FAILED
    else:
        has_failures = connection.execute(select(exists().where(failures.c.job_id == job_id))).scalar()
        state = JobState.SUCCEEDED_WITH_FAILURES if has_failures else JobState.SUCCEEDED
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(state=state, finished_at=now()))
    connection.execute(delete(listings).where(listings.c.job_id == job_id))
    return Finish.DONE


def add_deleted(connection: Connection, job_id: str, *, documents: int, nodes: int) -> None:
    """Count documents that vanished and were removed, and their nodes."""
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(deleted=jobs.c.deleted + documents, nodes_deleted=jobs.c.nodes_deleted + nodes)
    )


def refuse(connection: Connection, job_id: str, found: Sequence[Failure]) -> None:
    """Record failures that no batch counts, and count them on the job."""
    if not found:
        return
    record(connection, job_id, found)
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(failed=jobs.c.failed + len(found)))


def _sum(name: str) -> Any:
    return func.coalesce(func.sum(batches.c[name]), 0).label(name)


_SUMS = (
    "documents_new",
    "documents_changed",
    "documents_failed",
    "documents_duplicate",
    "nodes_upserted",
    "nodes_removed",
    "tokens_embedding",
    "tokens_prompt",
    "tokens_completion",
    "cache_hits",
    "cache_misses",
)


def report(connection: Connection, job_id: str) -> Report:
    """The report of a job, finished or not: its own counts and the sums over its batches.

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
        nodes=NodeCounts(upserted=sums.nodes_upserted, removed=sums.nodes_removed + job.nodes_deleted),
        tokens=TokenCounts(
            embedding=sums.tokens_embedding, prompt=sums.tokens_prompt, completion=sums.tokens_completion
        ),
        cache=CacheCounts(hits=sums.cache_hits, misses=sums.cache_misses),
        batches=BatchCounts(total=job.batches_total, retried=sums.retried),
        seconds=round(((job.finished_at or job.at) - job.created_at).total_seconds(), 3),
    )


def progress(connection: Connection, job_id: str) -> Progress:
    """How far a job is. Two queries over its own rows.

    Raises:
        JobNotFound: there is none.
    """
    job = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if job is None:
        raise JobNotFound(job_id)
    rows = connection.execute(
        select(
            batches.c.state,
            func.count().label("batches"),
            func.sum(batches.c.documents).label("documents"),
            _sum("documents_failed"),
            _sum("nodes_upserted"),
            _sum("tokens_embedding"),
            func.max(batches.c.reason).label("reason"),
        )
        .where(batches.c.job_id == job_id)
        .group_by(batches.c.state)
    ).all()
    ended = [row for row in rows if row.state in (BatchState.COMMITTED, BatchState.FAILED, BatchState.CANCELLED)]
    failed = job.failed + sum(row.documents_failed for row in rows)
    return Progress(
        state=JobState(job.state),
        seen=job.seen,
        settled=job.unchanged + job.duplicate + job.failed + sum(row.documents for row in ended),
        nodes=sum(row.nodes_upserted for row in rows),
        tokens=sum(row.tokens_embedding for row in rows),
        failed=failed,
        batches={BatchState(row.state): row.batches for row in rows},
        reasons=list(dict.fromkeys(row.reason for row in rows if row.reason and row.state in OPEN_STATES)),
    )


def known_documents(connection: Connection, collection: str) -> int:
    """Documents the ledger holds of a collection."""
    return connection.execute(
        select(func.count()).select_from(documents).where(documents.c.collection == collection)
    ).scalar_one()
