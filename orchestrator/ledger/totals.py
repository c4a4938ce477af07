"""Totals: what all jobs of the ledger come to, for whoever watches it. Finished jobs are summed once and remembered."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select

from orchestrator.contracts.report import TERMINAL_JOB_STATES, BatchState, JobState
from orchestrator.ledger.batches import OPEN_STATES
from orchestrator.ledger.clock import now
from orchestrator.ledger.tables import batches, failures, jobs, payments

__all__ = ["Totals", "TotalsReader"]

_JOBS_A_QUERY = 500
_LATE = 1000  # numbers within which a job may appear after one with a higher number: its transaction took longer

_COUNTED = {
    "documents_new": ("documents", "new"),
    "documents_changed": ("documents", "changed"),
    "documents_failed": ("documents", "failed"),
    "documents_duplicate": ("documents", "duplicate"),
    "nodes_upserted": ("nodes", "upserted"),
    "nodes_removed": ("nodes", "removed"),
    "cache_hits": ("cache", "hit"),
    "cache_misses": ("cache", "miss"),
}
_ON_JOB = {
    "unchanged": ("documents", "unchanged"),
    "duplicate": ("documents", "duplicate"),
    "failed": ("documents", "failed"),
    "deleted": ("documents", "deleted"),
    "nodes_deleted": ("nodes", "removed"),
}
_TOKENS = ("embedding", "prompt", "completion", "cached")


@dataclass(slots=True)
class Totals:
    """Sums over jobs.

    Attributes:
        jobs, batches: by state.
        documents, nodes, cache: by what became of them.
        tokens: by (model, kind); those that are `cached` are also in `prompt`.
        oldest_waiting: seconds that the oldest batch has waited for a worker or a commit.
        quarantined: failures that are not resolved.
    """

    jobs: Counter[JobState] = field(default_factory=Counter)
    batches: Counter[BatchState] = field(default_factory=Counter)
    documents: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)
    cache: Counter[str] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    oldest_waiting: float = 0.0
    quarantined: int = 0

    def add(self, other: "Totals") -> None:
        """Add the sums of other jobs."""
        for name in ("jobs", "batches", "documents", "nodes", "cache", "tokens"):
            getattr(self, name).update(getattr(other, name))


class TotalsReader:
    """Reads the totals again and again; each time it looks only at jobs that were not finished the last time.

    What an attempt pays after its job has finished is not seen until another reader begins.
    """

    def __init__(self) -> None:
        self._finished = Totals()
        self._known: set[int] = set()  # numbers of jobs in `_finished`, above `_floor`
        self._floor = 0  # up to here all jobs are in `_finished`

    def read(self, connection: Connection) -> Totals:
        """The totals now."""
        # States before sums: a job that is finished here is summed whole.
        found = connection.execute(
            select(jobs.c.number, jobs.c.id, jobs.c.state, *(jobs.c[name] for name in _ON_JOB))
            .where(jobs.c.number > self._floor)
            .order_by(jobs.c.number)
        ).all()
        fresh = [row for row in found if row.number not in self._known]
        ended = [row for row in fresh if row.state in TERMINAL_JOB_STATES]
        still_open = [row for row in fresh if row.state not in TERMINAL_JOB_STATES]
        self._finished.add(_sums(connection, ended))
        self._remember(ended, still_open)
        totals = _sums(connection, still_open)
        totals.add(self._finished)
        totals.oldest_waiting = _oldest_waiting(connection)
        unresolved = select(func.count()).select_from(failures).where(failures.c.resolved_at.is_(None))
        totals.quarantined = connection.execute(unresolved).scalar_one()
        return totals

    def _remember(self, ended: Sequence[Any], still_open: Sequence[Any]) -> None:
        self._known |= {row.number for row in ended}
        newest = max(self._known, default=0) - _LATE
        oldest_open = min((row.number for row in still_open), default=newest + 1)
        self._floor = max(self._floor, min(newest, oldest_open - 1))
        self._known = {number for number in self._known if number > self._floor}


def _sums(connection: Connection, rows: Sequence[Any]) -> Totals:
    """The sums of these jobs."""
    totals = Totals()
    for row in rows:
        totals.jobs[JobState(row.state)] += 1
        for name, (kind, key) in _ON_JOB.items():
            getattr(totals, kind)[key] += getattr(row, name)
    ids = [row.id for row in rows]
    for start in range(0, len(ids), _JOBS_A_QUERY):
        part = ids[start : start + _JOBS_A_QUERY]
        _add_batches(connection, totals, part)
        _add_tokens(connection, totals, part)
    return totals


def _add_batches(connection: Connection, totals: Totals, ids: Collection[str]) -> None:
    sums = (func.sum(batches.c[name]).label(name) for name in _COUNTED)
    query = (
        select(batches.c.state, func.count().label("count_"), *sums)
        .where(batches.c.job_id.in_(ids))
        .group_by(batches.c.state)
    )
    for row in connection.execute(query):
        totals.batches[BatchState(row.state)] += row.count_
        for name, (kind, key) in _COUNTED.items():
            getattr(totals, kind)[key] += int(getattr(row, name))


def _add_tokens(connection: Connection, totals: Totals, ids: Collection[str]) -> None:
    sums = (func.sum(payments.c[name]).label(name) for name in _TOKENS)
    query = select(payments.c.model, *sums).where(payments.c.job_id.in_(ids)).group_by(payments.c.model)
    for row in connection.execute(query):
        for kind in _TOKENS:
            totals.tokens[row.model, kind] += int(getattr(row, kind))


def _oldest_waiting(connection: Connection) -> float:
    """Seconds; a retry waits for a worker from the moment it is due."""
    since = case(
        (batches.c.state == BatchState.TRANSFORMED, batches.c.transformed_at),
        (batches.c.state == BatchState.RETRYING, batches.c.retry_at),
        else_=batches.c.published_at,
    )
    waits = or_(
        batches.c.state.in_((BatchState.WAITING, BatchState.TRANSFORMED)),
        and_(batches.c.state == BatchState.RETRYING, batches.c.retry_at < now()),
    )
    # The index of open batches is by job.
    is_open = jobs.c.state.not_in(TERMINAL_JOB_STATES)
    query = (
        select(func.min(since), now())
        .join(jobs, jobs.c.id == batches.c.job_id)
        .where(is_open, ~jobs.c.paused, batches.c.state.in_(OPEN_STATES), waits)
    )
    oldest, at = connection.execute(query).one()
    return 0.0 if oldest is None else max(0.0, (at - oldest).total_seconds())
