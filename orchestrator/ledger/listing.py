"""Listings: jobs and batches as tables of them are shown, filtered, sorted and paged in SQL.

A page of jobs is four queries, however many jobs there are: counts by state, the page, and the sums over its batches
and payments.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, or_, select

from orchestrator.contracts.errors import JobNotFound
from orchestrator.contracts.report import (
    TERMINAL_JOB_STATES,
    BatchState,
    BillLine,
    CacheCounts,
    DocumentCounts,
    JobState,
)
from orchestrator.ledger.batches import OPEN_STATES
from orchestrator.ledger.clock import now
from orchestrator.ledger.payments import bills
from orchestrator.ledger.tables import batches, jobs, payments

__all__ = ["SORTS", "BatchLine", "JobLine", "JobsPage", "batches_page", "job_line", "jobs_page"]

_RECENT_SECONDS = 60.0  # a running job's speed is that of the last minute

_ON_JOB = (
    "id",
    "collection",
    "state",
    "paused",
    "started_by",
    "created_at",
    "finished_at",
    "seen",
    "unchanged",
    "duplicate",
    "deleted",
    "failed",
)
_ON_BATCHES = (
    "documents_new",
    "documents_changed",
    "documents_failed",
    "documents_duplicate",
    "nodes_upserted",
    "cache_hits",
    "cache_misses",
)
_STARTER = func.coalesce(jobs.c.started_by, "")
# What jobs can be sorted by: of the job's own row, and of sums over all its batches or payments.
_BY_ROW: Mapping[str, ColumnElement[Any]] = {
    "created": jobs.c.number,
    "state": jobs.c.state,
    "collection": jobs.c.collection,
    "started_by": _STARTER,
    "unchanged": jobs.c.unchanged,
    "deleted": jobs.c.deleted,
    "batches": jobs.c.batches_total,
}
_HITS, _MISSES = func.sum(batches.c.cache_hits), func.sum(batches.c.cache_misses)
_BY_BATCHES: Mapping[str, ColumnElement[Any]] = {
    "new": func.sum(batches.c.documents_new),
    "changed": func.sum(batches.c.documents_changed),
    "failed": func.sum(batches.c.documents_failed),
    "nodes": func.sum(batches.c.nodes_upserted),
    "cache": 1.0 * _HITS / func.nullif(_HITS + _MISSES, 0),
}
_BY_PAYMENTS: Mapping[str, ColumnElement[Any]] = {
    "tokens": func.sum(payments.c.embedding + payments.c.prompt + payments.c.completion)
}
SORTS = (*_BY_ROW, *_BY_BATCHES, *_BY_PAYMENTS)


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job, as a list shows it.

    Attributes:
        started_by: who enqueued it; None: nobody knows.
        age: seconds since it was enqueued.
        seconds: how long it has run, or ran.
        documents: what became of them so far.
        batches: how many, by state.
        nodes: written to the vector store, or produced where there is none.
        bill: tokens by transformation and model.
        documents_per_second: transformed and committed; of a running job in the last minute. None: none was.
        seconds_left: at that speed. None: unknown, because the source is still read, or nothing moves.
    """

    id: str
    collection: str
    state: JobState
    paused: bool
    started_by: str | None
    created_at: datetime
    age: float
    seconds: float
    documents: DocumentCounts
    batches: Mapping[BatchState, int]
    nodes: int
    bill: Sequence[BillLine]
    cache: CacheCounts
    documents_per_second: float | None
    seconds_left: float | None

    @property
    def ended_at(self) -> datetime:
        """When it ended; of one that goes on, the moment of this line."""
        return self.created_at + timedelta(seconds=self.seconds)

    @property
    def batches_total(self) -> int:
        """Batches there are so far; those that were halved, and their halves, among them."""
        return sum(self.batches.values())

    @property
    def batches_done(self) -> int:
        """Batches that have ended, however."""
        return sum(count for state, count in self.batches.items() if state not in OPEN_STATES)

    @property
    def tokens(self) -> int:
        """Tokens paid for."""
        return sum(line.embedding + line.prompt + line.completion for line in self.bill)


@dataclass(frozen=True, slots=True)
class JobsPage:
    """Some jobs of those that were asked for.

    Attributes:
        total: how many were asked for.
        states: how many there are by state, whichever states were asked for.
    """

    lines: Sequence[JobLine]
    total: int
    states: Mapping[JobState, int]


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One batch, as a list shows it.

    Attributes:
        reason: why it is retried, halved or failed.
        attempt: leases given so far.
        owner: the worker that runs it.
        waited, transformed, committed: seconds of its last attempt in each stage, as far as that is over.
    """

    number: int
    state: BatchState
    reason: str | None
    documents: int
    nodes: int
    attempt: int
    owner: str | None
    waited: float | None
    transformed: float | None
    committed: float | None


def jobs_page(
    connection: Connection,
    *,
    states: Collection[JobState] = (),
    text: str = "",
    sort: str = "created",
    descending: bool = True,
    limit: int = 25,
    offset: int = 0,
) -> JobsPage:
    """A page of the jobs whose id, collection or starter contains the text.

    Args:
        states: those asked for; empty: all.
        sort: one of SORTS. Jobs that are equal by it come newest first.
    """
    alike = or_(*(column.icontains(text, autoescape=True) for column in (jobs.c.id, jobs.c.collection, _STARTER)))
    counted = select(jobs.c.state, func.count()).group_by(jobs.c.state)
    found = connection.execute(counted.where(alike) if text else counted)
    by_state = {JobState(state): count for state, count in found}
    query = _sorted(sort, descending).limit(limit).offset(offset)
    if text:
        query = query.where(alike)
    if states:
        query = query.where(jobs.c.state.in_(states))
    total = sum(count for state, count in by_state.items() if not states or state in states)
    return JobsPage(_lines(connection, connection.execute(query).all()), total, by_state)


def _sorted(sort: str, descending: bool) -> Select[Any]:
    """The rows of jobs in order."""
    query = select(*(jobs.c[name] for name in _ON_JOB), now().label("at"))
    if sort in _BY_ROW:
        key: ColumnElement[Any] = _BY_ROW[sort]
    else:
        table, value = (batches, _BY_BATCHES[sort]) if sort in _BY_BATCHES else (payments, _BY_PAYMENTS[sort])
        sums = select(table.c.job_id, value.label("value")).group_by(table.c.job_id).subquery()
        query = query.outerjoin(sums, sums.c.job_id == jobs.c.id)
        # A job that never looked into the cache has no rate, and comes below those that found nothing.
        key = func.coalesce(sums.c.value, -1 if sort == "cache" else 0)
        if sort == "failed":
            key = key + jobs.c.failed
    return query.order_by(key.desc() if descending else key.asc(), jobs.c.number.desc())


def job_line(connection: Connection, job_id: str) -> JobLine:
    """One job, as in a list.

    Raises:
        JobNotFound: there is none.
    """
    rows = connection.execute(
        select(*(jobs.c[name] for name in _ON_JOB), now().label("at")).where(jobs.c.id == job_id)
    ).all()
    if not rows:
        raise JobNotFound(job_id)
    return _lines(connection, rows)[0]


def _lines(connection: Connection, rows: Sequence[Any]) -> list[JobLine]:
    """Two queries for what is summed over the jobs' batches and payments."""
    ids = [row.id for row in rows]
    recent = case((batches.c.finished_at > now(-_RECENT_SECONDS), batches.c.documents), else_=0)
    sums: dict[str, list[Any]] = {id: [] for id in ids}
    for row in connection.execute(
        select(
            batches.c.job_id,
            batches.c.state,
            func.count().label("batches"),
            func.sum(batches.c.documents).label("documents"),
            func.sum(recent).label("recent"),
            *(func.sum(batches.c[name]).label(name) for name in _ON_BATCHES),
        )
        .where(batches.c.job_id.in_(ids))
        .group_by(batches.c.job_id, batches.c.state)
    ):
        sums[row.job_id].append(row)
    paid = bills(connection, ids)
    return [_line(row, sums[row.id], paid[row.id]) for row in rows]


def _line(job: Any, of_states: Sequence[Any], bill: Sequence[BillLine]) -> JobLine:
    summed = {name: sum(int(getattr(row, name)) for row in of_states) for name in _ON_BATCHES}
    seconds = ((job.finished_at or job.at) - job.created_at).total_seconds()
    per_second, seconds_left = _speed(job, seconds, of_states)
    return JobLine(
        id=job.id,
        collection=job.collection,
        state=JobState(job.state),
        paused=job.paused and job.state not in TERMINAL_JOB_STATES,
        started_by=job.started_by,
        created_at=job.created_at,
        age=(job.at - job.created_at).total_seconds(),
        seconds=seconds,
        documents=DocumentCounts(
            seen=job.seen,
            new=summed["documents_new"],
            changed=summed["documents_changed"],
            unchanged=job.unchanged,
            duplicate=job.duplicate + summed["documents_duplicate"],
            deleted=job.deleted,
            failed=job.failed + summed["documents_failed"],
        ),
        batches={BatchState(row.state): row.batches for row in of_states},
        nodes=summed["nodes_upserted"],
        bill=bill,
        cache=CacheCounts(hits=summed["cache_hits"], misses=summed["cache_misses"]),
        documents_per_second=per_second,
        seconds_left=seconds_left,
    )


def _speed(job: Any, seconds: float, of_states: Sequence[Any]) -> tuple[float | None, float | None]:
    """Documents a second, and the seconds left at that speed."""
    done = [row for row in of_states if row.state in (BatchState.COMMITTED, BatchState.FAILED)]
    if job.state in TERMINAL_JOB_STATES:
        return (sum(row.documents for row in done) / max(seconds, 0.001) if done else None), None
    per_second = sum(row.recent for row in done) / max(1.0, min(seconds, _RECENT_SECONDS))
    if not per_second:
        return None, None
    if job.state != JobState.RUNNING or job.paused:
        return per_second, None
    left = sum(row.documents for row in of_states if row.state in OPEN_STATES)
    return per_second, left / per_second


def batches_page(
    connection: Connection, job_id: str, *, states: Collection[BatchState] = (), limit: int = 25, offset: int = 0
) -> list[BatchLine]:
    """A page of a job's batches by number; only those in some states, if any are given."""
    condition = batches.c.job_id == job_id
    if states:
        condition = and_(condition, batches.c.state.in_(states))
    columns = ("number", "state", "reason", "documents", "nodes_upserted", "attempt", "owner")
    moments = ("published_at", "started_at", "transformed_at", "finished_at")
    rows = connection.execute(
        select(*(batches.c[name] for name in (*columns, *moments)))
        .where(condition)
        .order_by(batches.c.number)
        .limit(limit)
        .offset(offset)
    )
    return [
        BatchLine(
            number=row.number,
            state=BatchState(row.state),
            reason=row.reason,
            documents=row.documents,
            nodes=row.nodes_upserted,
            attempt=row.attempt,
            owner=row.owner,
            waited=_between(row.published_at, row.started_at),
            transformed=_between(row.started_at, row.transformed_at),
            committed=_between(row.transformed_at, row.finished_at),
        )
        for row in rows
    ]


def _between(begin: datetime | None, end: datetime | None) -> float | None:
    """Seconds; None where the end is that of an attempt before."""
    return (end - begin).total_seconds() if begin and end and end >= begin else None
