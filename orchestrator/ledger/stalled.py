"""What has stalled: found by the reconciler, a page at a time, and set moving again.

Every condition is read from SQL alone. Publishing twice is harmless: a lease is given once.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, exists, or_, select, update

from orchestrator.contracts.report import BatchState, JobState
from orchestrator.ledger.batches import LEASED, OPEN_STATES, Lease
from orchestrator.ledger.binary_results import IN_BINARY
from orchestrator.ledger.clock import now
from orchestrator.ledger.tables import batches, jobs
from orchestrator.ledger.window import Published

__all__ = ["OpenJob", "abandoned", "exhausted", "forgotten_commits", "lost_messages", "open_jobs", "vanished_clients"]

_PAGE = 500  # rows a look; the next look, seconds later, takes the next page


def _publish(connection: Connection, condition: Any, values: Mapping[str, Any]) -> dict[str, list[Published]]:
    chosen = select(batches.c.job_id, batches.c.number).where(condition).limit(_PAGE).with_for_update(skip_locked=True)
    found: dict[str, list[Published]] = defaultdict(list)
    for job_id, number in connection.execute(chosen).all():
        row = connection.execute(
            update(batches)
            .where(batches.c.job_id == job_id, batches.c.number == number)
            .values(state=BatchState.WAITING, published_at=now(), **values)
            .returning(batches.c.number, batches.c.documents)
        ).one()
        found[job_id].append(Published(*row))
    return dict(found)


def abandoned(connection: Connection, *, stale_after: float, max_attempts: int) -> dict[str, list[Published]]:
    """Batches whose worker stopped beating, counted as a strike, and those whose retry is due: to be published."""
    dead = _publish(
        connection,
        and_(
            batches.c.state == BatchState.RUNNING,
            batches.c.heartbeat_at < now(-stale_after),
            batches.c.strikes + 1 < max_attempts,
        ),
        {"strikes": batches.c.strikes + 1, "owner": None, "reason": "its worker stopped answering"},
    )
    due = _publish(
        connection,
        and_(batches.c.state == BatchState.RETRYING, batches.c.retry_at <= now(), batches.c.strikes < max_attempts),
        {},
    )
    return {job_id: [*dead.get(job_id, []), *due.get(job_id, [])] for job_id in dead.keys() | due.keys()}


def exhausted(connection: Connection, owner: str, *, stale_after: float, max_attempts: int) -> list[Lease]:
    """Batches that died or failed `max_attempts` times, leased to the reconciler: it halves them or gives them up."""
    condition = or_(
        and_(
            batches.c.state == BatchState.RUNNING,
            batches.c.heartbeat_at < now(-stale_after),
            batches.c.strikes + 1 >= max_attempts,
        ),
        and_(batches.c.state.in_((BatchState.WAITING, BatchState.RETRYING)), batches.c.strikes >= max_attempts),
    )
    chosen = select(batches.c.job_id, batches.c.number).where(condition).limit(20).with_for_update(skip_locked=True)
    leases = []
    for job_id, number in connection.execute(chosen).all():
        row = connection.execute(
            update(batches)
            .where(batches.c.job_id == job_id, batches.c.number == number)
            .values(state=BatchState.RUNNING, owner=owner, attempt=batches.c.attempt + 1, heartbeat_at=now())
            .returning(*LEASED)
            .execution_options(**IN_BINARY)
        ).one()
        leases.append(Lease(job_id, number, owner, *row))
    return leases


def lost_messages(connection: Connection, *, older_than: float) -> dict[str, list[Published]]:
    """Batches that wait although their message should have been taken long ago: to be published again."""
    condition = and_(batches.c.state == BatchState.WAITING, batches.c.published_at < now(-older_than))
    return _publish(connection, condition, {})


def forgotten_commits(connection: Connection, *, older_than: float) -> dict[str, list[int]]:
    """Batches transformed a while ago that no commit took: {job id: numbers}."""
    rows = connection.execute(
        select(batches.c.job_id, batches.c.number)
        .where(batches.c.state == BatchState.TRANSFORMED, batches.c.transformed_at < now(-older_than))
        .order_by(batches.c.job_id, batches.c.number)
        .limit(_PAGE)
    )
    found: dict[str, list[int]] = defaultdict(list)
    for job_id, number in rows:
        found[job_id].append(number)
    return dict(found)


def vanished_clients(connection: Connection, *, stale_after: float) -> Sequence[str]:
    """Jobs whose client stopped beating while it read the source."""
    return list(
        connection.execute(
            select(jobs.c.id).where(jobs.c.state == JobState.ENQUEUING, jobs.c.heartbeat_at < now(-stale_after))
        ).scalars()
    )


class OpenJob(NamedTuple):
    """A job that is not finished."""

    id: str
    state: JobState
    paused: bool
    has_open: bool  # batches that are not done


def open_jobs(connection: Connection) -> list[OpenJob]:
    """Every job that is not finished, oldest first."""
    has_open = exists().where(batches.c.job_id == jobs.c.id, batches.c.state.in_(OPEN_STATES))
    rows = connection.execute(
        select(jobs.c.id, jobs.c.state, jobs.c.paused, has_open)
        .where(jobs.c.state.in_((JobState.ENQUEUING, JobState.RUNNING, JobState.CANCELLING)))
        .order_by(jobs.c.number)
    )
    return [OpenJob(id, JobState(state), paused, bool(is_open)) for id, state, paused, is_open in rows]
