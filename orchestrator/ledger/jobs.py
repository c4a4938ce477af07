"""Jobs: created when enqueuing starts, finished once, reported from sums over their batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BindParameter, Connection, RowMapping, bindparam, case, delete, exists, insert, select, update

from orchestrator.contracts.errors import JobNotFound
from orchestrator.contracts.messages import Priority
from orchestrator.contracts.report import (
    TERMINAL_JOB_STATES,
    JobState,
)
from orchestrator.contracts.spec import PipelineSpec
from orchestrator.ledger.batches import OPEN_STATES, lock_job
from orchestrator.ledger.clock import now
from orchestrator.ledger.documents import vanished_count
from orchestrator.ledger.failures import Failure, record
from orchestrator.ledger.statements import insert_into
from orchestrator.ledger.storable import storable
from orchestrator.ledger.tables import batches, failures, jobs, listings

__all__ = [
    "Finish",
    "JobRow",
    "add_deleted",
    "add_listing",
    "add_seen",
    "beat",
    "close_listing",
    "create",
    "fail",
    "finish",
    "get",
    "has_rivals",
    "recent",
    "refuse",
    "unfinished",
]

_STARTED_BY_CHARACTERS = 200  # of the column
_OPEN = (JobState.ENQUEUING, JobState.RUNNING, JobState.CANCELLING)

# Statements of every slice are built once: to build one takes longer than to run it.
_JOB: BindParameter[str] = bindparam("of_job")
_HAS_RIVALS = select(
    exists().where(
        jobs.c.collection == bindparam("of_collection"), jobs.c.number < bindparam("of_number"), jobs.c.state.in_(_OPEN)
    )
)
_IN_BATCHES = case((jobs.c.state == JobState.ENQUEUING, bindparam("in_batches")), else_=0)
_ADD_SEEN = (
    update(jobs)
    .where(jobs.c.id == _JOB)
    .values(
        seen=jobs.c.seen + bindparam("more_seen") + _IN_BATCHES,
        unchanged=jobs.c.unchanged + bindparam("more_unchanged"),
        duplicate=jobs.c.duplicate + bindparam("more_duplicate"),
        heartbeat_at=now(),
    )
    .returning(jobs.c.state)
)
_OPEN_OR_NOT = select(
    jobs.c.state,
    jobs.c.error,
    jobs.c.may_delete,
    exists().where(batches.c.job_id == _JOB, batches.c.state.in_(OPEN_STATES)).label("has_open"),
).where(jobs.c.id == _JOB)


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as it stands in the ledger."""

    number: int
    id: str
    collection: str
    spec: PipelineSpec
    state: JobState
    paused: bool
    priority: Priority
    error: str | None
    created_at: datetime
    finished_at: datetime | None


class Finish(StrEnum):
    """What became of an attempt to finish a job."""

    DONE = "done"  # this call finished it
    BEFORE = "before"  # somebody else had
    OPEN = "open"  # there are batches to do, or the source is still read
    DELETE = "delete"  # vanished documents are to be removed first, which takes a worker


def create(
    connection: Connection,
    job_id: str,
    spec: PipelineSpec,
    *,
    scope: str = "",
    priority: Priority = Priority.NORMAL,
    started_by: str | None = None,
) -> JobRow:
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
            priority=priority,
            started_by=None if started_by is None else storable(started_by, _STARTED_BY_CHARACTERS),
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
        paused=row["paused"],
        priority=Priority(row["priority"]),
        error=row["error"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )


def recent(connection: Connection, limit: int = 20) -> list[JobRow]:
    """The latest jobs, newest first."""
    rows = connection.execute(select(jobs).order_by(jobs.c.number.desc()).limit(limit)).mappings()
    return [_job_row(row) for row in rows]


def unfinished(connection: Connection) -> list[str]:
    """Ids of the jobs that have not ended, oldest first."""
    return list(connection.execute(select(jobs.c.id).where(jobs.c.state.in_(_OPEN)).order_by(jobs.c.number)).scalars())


def has_rivals(connection: Connection, job: JobRow) -> bool:
    """Whether an older job of the same collection is still at work."""
    asked = {"of_collection": job.collection, "of_number": job.number}
    return bool(connection.execute(_HAS_RIVALS, asked).scalar())


def add_seen(
    connection: Connection, job_id: str, *, seen: int, unchanged: int, duplicate: int, in_batches: int = 0
) -> JobState:
    """Count a slice of the source; also the client's sign of life. Returns the job's state: it may be cancelled.

    Args:
        seen: documents that are settled.
        in_batches: documents of batches that the caller adds next if the job still takes them, and does not if not.
    """
    more = {"more_seen": seen, "more_unchanged": unchanged, "more_duplicate": duplicate, "in_batches": in_batches}
    return JobState(connection.execute(_ADD_SEEN, {"of_job": job_id, **more}).scalar_one())


def beat(connection: Connection, job_id: str) -> None:
    """The client still reads its source."""
    connection.execute(
        update(jobs).where(jobs.c.id == job_id, jobs.c.state == JobState.ENQUEUING).values(heartbeat_at=now())
    )


def add_listing(connection: Connection, job_id: str, ids: Sequence[str]) -> None:
    """Remember ids that the source listed."""
    if ids:
        connection.execute(
            insert_into(connection.dialect.name, listings).on_conflict_do_nothing(),
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


def finish(connection: Connection, job_id: str) -> Finish:
    """Finish the job if nothing of it is open. Whoever calls it, and however often, it is finished once."""
    found = _finishable(connection, job_id)
    if isinstance(found, Finish):
        return found  # as most calls end, without having waited for anybody
    lock_job(connection, job_id)
    row = _finishable(connection, job_id)
    if isinstance(row, Finish):
        return row
    cancelled = row["state"] == JobState.CANCELLING
    if row["may_delete"] and not cancelled and not row["error"] and vanished_count(connection, job_id)[0]:
        return Finish.DELETE
    if cancelled:
        state = JobState.CANCELLED
    elif row["error"]:
        state = JobState.FAILED
    else:
        has_failures = connection.execute(select(exists().where(failures.c.job_id == job_id))).scalar()
        state = JobState.SUCCEEDED_WITH_FAILURES if has_failures else JobState.SUCCEEDED
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(state=state, finished_at=now()))
    connection.execute(delete(listings).where(listings.c.job_id == job_id))
    return Finish.DONE


def _finishable(connection: Connection, job_id: str) -> RowMapping | Finish:
    """The job's row if nothing of it is open; else what became of it, or that it is open."""
    row = connection.execute(_OPEN_OR_NOT, {"of_job": job_id}).mappings().one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    if row["state"] in TERMINAL_JOB_STATES:
        return Finish.BEFORE
    return Finish.OPEN if row["state"] == JobState.ENQUEUING or row["has_open"] else row


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
