"""Control: jobs cancelled, aborted, stopped, paused and resumed. Asking for the same thing again changes nothing."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, update

from orchestrator.contracts.report import BatchState, JobState
from orchestrator.ledger.batches import OPEN_STATES, Lease
from orchestrator.ledger.clock import now
from orchestrator.ledger.failures import Failure, has_failure, record
from orchestrator.ledger.jobs import get
from orchestrator.ledger.storable import storable
from orchestrator.ledger.tables import batches, jobs
from orchestrator.ledger.window import hold_back

__all__ = ["abort", "cancel", "cancel_batches", "pause", "resume", "stop"]

_NOT_BEGUN = (BatchState.PENDING, BatchState.WAITING, BatchState.RETRYING)


def abort(connection: Connection, job_id: str, error: Exception) -> None:
    """The job cannot be done by anybody: its open batches fail, with one reason for all of them."""
    _break(connection, job_id, error, batches.c.state.in_(OPEN_STATES))


def stop(connection: Connection, held: Lease, error: Exception) -> None:
    """The job goes no further: the batch held fails, and all that are not begun; what others run may be committed."""
    ours = and_(
        batches.c.number == held.number, batches.c.attempt == held.attempt, batches.c.state == BatchState.RUNNING
    )
    _break(connection, held.job_id, error, or_(batches.c.state.in_(_NOT_BEGUN), ours))


def _break(connection: Connection, job_id: str, error: Exception, ends: ColumnElement[bool]) -> None:
    """The job has an error, and its batches of this condition fail with it."""
    reason = storable(f"{type(error).__name__}: {error}")
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state.in_((JobState.ENQUEUING, JobState.RUNNING)))
        .values(state=JobState.RUNNING, error=reason)
    )
    ended: Any = connection.execute(
        update(batches)
        .where(batches.c.job_id == job_id, ends)
        .values(
            state=BatchState.FAILED,
            reason=reason,
            payload=None,
            finished_at=now(),
            documents_failed=batches.c.documents,
        )
    )
    if ended.rowcount and not has_failure(connection, job_id, "*", error):
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


def pause(connection: Connection, job_id: str) -> None:
    """Begin no more batches of a job; those that run end, and are committed.

    Raises:
        JobNotFound: there is none.
    """
    _set_paused(connection, job_id, True)
    hold_back(connection, job_id)


def resume(connection: Connection, job_id: str) -> None:
    """Let a paused job go on; the caller fills its window.

    Raises:
        JobNotFound: there is none.
    """
    _set_paused(connection, job_id, False)


def _set_paused(connection: Connection, job_id: str, paused: bool) -> None:
    get(connection, job_id)
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state.in_((JobState.ENQUEUING, JobState.RUNNING)))
        .values(paused=paused)
    )
