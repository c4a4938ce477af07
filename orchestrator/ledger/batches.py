"""Batches and their leases: published, leased, transformed, committed; or retried, halved, failed.

pending ─► waiting ─► running ─► transformed ─► committed
              ▲          ├─► retrying ─┘ (after a delay, again)
              └──────────┤ lease or result lost
                         └─► halved | failed          any open state ─► cancelled
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Float,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from orchestrator.contracts.report import BatchState, JobState
from orchestrator.ledger.binary_results import IN_BINARY
from orchestrator.ledger.clock import now
from orchestrator.ledger.payments import Cost, pay
from orchestrator.ledger.storable import storable
from orchestrator.ledger.tables import batches, jobs

__all__ = [
    "LEASED",
    "OPEN_STATES",
    "BatchOutcome",
    "Lease",
    "Marked",
    "NewBatch",
    "add",
    "any_on_the_way",
    "charge",
    "commit",
    "heartbeat",
    "is_open",
    "lease",
    "leases_of",
    "lock_job",
    "lock_transformed",
    "mark_transformed",
    "reclaim",
    "settle",
]

OPEN_STATES = (
    BatchState.PENDING,
    BatchState.WAITING,
    BatchState.RUNNING,
    BatchState.RETRYING,
    BatchState.TRANSFORMED,
)
# What a lease takes from the row, in the order of its fields.
LEASED = tuple(batches.c[name] for name in ("attempt", "strikes", "retries", "first_started_at", "payload"))
_NOTHING = Cost()

# What runs for every batch is built once, and has these parameters: to build it would take as long as to run it.
_JOB: BindParameter[str] = bindparam("of_job")
_NUMBER: BindParameter[int] = bindparam("of_number")
_NUMBERS: BindParameter[Sequence[int]] = bindparam("of_numbers", expanding=True)


class NewBatch(NamedTuple):
    """A batch to be added: its compressed payload, what it holds, and since when that is tried, if it is."""

    payload: bytes
    documents: int
    weight: int
    first_started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a batch. `attempt` is the fencing token: only the latest attempt's result counts."""

    job_id: str
    number: int
    owner: str
    attempt: int
    strikes: int
    retries: int
    first_started_at: datetime
    payload: bytes

    @property
    def tries(self) -> int:
        """Attempts that counted, this one included."""
        return self.strikes + self.retries + 1


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What a commit writes into a batch row."""

    number: int
    documents_new: int = 0
    documents_changed: int = 0
    documents_failed: int = 0
    documents_duplicate: int = 0
    nodes_upserted: int = 0
    nodes_removed: int = 0

    def with_removed(self, nodes: int) -> "BatchOutcome":
        """The same, with so many stale nodes removed."""
        return replace(self, nodes_removed=nodes)


def add(connection: Connection, job_id: str, new: Sequence[NewBatch]) -> None:
    """Add batches to a job under its next numbers; they wait as `pending`."""
    if not new:
        return
    total = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(batches_total=jobs.c.batches_total + len(new))
        .returning(jobs.c.batches_total)
    ).scalar_one()
    first = total - len(new)
    connection.execute(
        insert(batches),
        [
            {"job_id": job_id, "number": first + index, "state": BatchState.PENDING, **batch._asdict()}
            for index, batch in enumerate(new)
        ],
    )


def lock_job(connection: Connection, job_id: str) -> None:
    """Lock a job's row until the transaction ends. Rows that refer to it, as payments do, are written meanwhile."""
    connection.execute(select(jobs.c.id).where(jobs.c.id == job_id).with_for_update(key_share=True))


def is_open(job_id: str | BindParameter[str], *, paused: bool | None = None) -> ColumnElement[bool]:
    """The job takes results; where asked for, it is paused or is not."""
    condition = [jobs.c.id == job_id, jobs.c.state.in_((JobState.ENQUEUING, JobState.RUNNING))]
    if paused is not None:
        condition.append(jobs.c.paused == paused)
    return exists().where(*condition)


_IS_ABANDONED = and_(
    batches.c.state == BatchState.RUNNING, batches.c.heartbeat_at < now(bindparam("since_seconds", type_=Float))
)
_STRIKES = batches.c.strikes + case((_IS_ABANDONED, 1), else_=0)
_LEASE = (
    update(batches)
    .where(
        batches.c.job_id == _JOB,
        batches.c.number == _NUMBER,
        or_(
            batches.c.state.in_((BatchState.PENDING, BatchState.WAITING, BatchState.RETRYING)),
            _IS_ABANDONED,
        ),
        bindparam("max_attempts") > _STRIKES,
        is_open(_JOB, paused=False),
    )
    .values(
        state=BatchState.RUNNING,
        owner=bindparam("of_owner"),
        attempt=batches.c.attempt + 1,
        strikes=_STRIKES,
        heartbeat_at=now(),
        started_at=now(),
        first_started_at=func.coalesce(batches.c.first_started_at, now()),
        reason=None,
    )
    .returning(*LEASED)
    .execution_options(**IN_BINARY)
)


def lease(
    connection: Connection, job_id: str, number: int, owner: str, *, stale_after: float, max_attempts: int
) -> Lease | None:
    """Take the right to run a batch; None if it is done, given up, cancelled, or another owner's heartbeat is fresh."""
    asked = {
        "of_job": job_id,
        "of_number": number,
        "of_owner": owner,
        "since_seconds": -stale_after,
        "max_attempts": max_attempts,
    }
    row = connection.execute(_LEASE, asked).one_or_none()
    return None if row is None else Lease(job_id, number, owner, *row)


def heartbeat(connection: Connection, owner: str) -> int:
    """Say that all leases of an owner are alive; returns how many it still holds."""
    result: Any = connection.execute(
        update(batches)
        .where(batches.c.owner == owner, batches.c.state == BatchState.RUNNING)
        .values(heartbeat_at=now())
    )
    return int(result.rowcount)


def reclaim(connection: Connection, job_id: str, number: int, owner: str) -> Lease | None:
    """Lease a transformed batch that cannot be committed, to take it apart; None if it is not waiting any more."""
    row = connection.execute(
        update(batches)
        .where(batches.c.job_id == job_id, batches.c.number == number, batches.c.state == BatchState.TRANSFORMED)
        .values(state=BatchState.RUNNING, owner=owner, attempt=batches.c.attempt + 1, heartbeat_at=now())
        .returning(*LEASED)
        .execution_options(**IN_BINARY)
    ).one_or_none()
    return None if row is None else Lease(job_id, number, owner, *row)


# The row of a lease that is still held, and what its run adds to it.
_SETTLE = (
    update(batches)
    .where(
        batches.c.job_id == _JOB,
        batches.c.number == _NUMBER,
        batches.c.state == BatchState.RUNNING,
        batches.c.attempt == bindparam("of_attempt"),
    )
    .values(
        cache_hits=batches.c.cache_hits + bindparam("more_hits"),
        cache_misses=batches.c.cache_misses + bindparam("more_misses"),
    )
)
_others = batches.alias("others")
_MARK_TRANSFORMED = _SETTLE.values(state=BatchState.TRANSFORMED, transformed_at=now()).returning(
    exists().where(_others.c.job_id == _JOB, _others.c.state == BatchState.WAITING)
)


class Marked(NamedTuple):
    """What became of a batch whose nodes lie in Redis.

    Attributes:
        counts: False if its lease was lost: the result must not count, but what it cost does.
        others_wait: other batches of its job wait for a worker.
    """

    counts: bool
    others_wait: bool = False


def mark_transformed(connection: Connection, held: Lease, cost: Cost) -> Marked:
    """The lease's nodes lie in Redis."""
    others_wait = _settle(connection, _MARK_TRANSFORMED, held, cost).scalar_one_or_none()
    return Marked(counts=others_wait is not None, others_wait=bool(others_wait))


def _settle(connection: Connection, settle: Any, held: Lease, cost: Cost) -> Any:
    charge(connection, held, cost)
    ended = {
        "of_job": held.job_id,
        "of_number": held.number,
        "of_attempt": held.attempt,
        "more_hits": cost.cache_hits,
        "more_misses": cost.cache_misses,
    }
    return connection.execute(settle, ended)


def charge(connection: Connection, held: Lease, cost: Cost) -> None:
    """Write down what a lease has paid so far, whether or not it is still held."""
    pay(connection, held.job_id, held.number, held.attempt, cost.payments)


def settle(
    connection: Connection,
    held: Lease,
    state: BatchState,
    reason: str,
    *,
    retry_in: float = 0.0,
    cost: Cost = _NOTHING,
) -> bool:
    """End a lease without a result: retried after `retry_in` seconds, halved or failed. False if it was lost.

    What it cost counts in any case.
    """
    if state is BatchState.HALVED:
        # The halves are counted on the job, and whoever cancels locks the job before its batches: so does this.
        lock_job(connection, held.job_id)
    values: dict[str, Any] = {"state": state, "reason": storable(reason), "owner": None}
    if state is BatchState.RETRYING:
        values |= {"retry_at": now(retry_in), "retries": batches.c.retries + 1}
    else:
        values |= {"payload": None, "finished_at": now()}
    if state is BatchState.FAILED:
        values["documents_failed"] = batches.c.documents
    return bool(_settle(connection, _SETTLE.values(**values), held, cost).rowcount)


_LOCK_TRANSFORMED = (
    select(batches.c.number, batches.c.attempt)
    .where(
        batches.c.job_id == _JOB,
        batches.c.number.in_(_NUMBERS),
        batches.c.state == BatchState.TRANSFORMED,
        is_open(_JOB),
    )
    .order_by(batches.c.number)
    .with_for_update(of=batches)
)


def lock_transformed(connection: Connection, job_id: str, numbers: Sequence[int]) -> dict[int, int]:
    """Lock the batches that wait for this commit: {number: attempt that counts}; none if the job was cancelled."""
    return dict(connection.execute(_LOCK_TRANSFORMED, {"of_job": job_id, "of_numbers": numbers}).all())


def leases_of(connection: Connection, job_id: str, numbers: Sequence[int]) -> dict[int, Lease]:
    """{number: the lease that made its result}, of batches that are not committed yet."""
    rows = connection.execute(
        select(batches.c.number, func.coalesce(batches.c.owner, ""), *LEASED)
        .where(batches.c.job_id == job_id, batches.c.number.in_(numbers), batches.c.payload.is_not(None))
        .execution_options(**IN_BINARY)
    )
    return {number: Lease(job_id, number, *lease) for number, *lease in rows}


_COUNTED = [name for name in BatchOutcome.__dataclass_fields__ if name != "number"]
_COMMIT = (
    update(batches)
    .where(batches.c.job_id == _JOB, batches.c.number == _NUMBER)
    .values(
        state=BatchState.COMMITTED,
        payload=None,
        owner=None,
        finished_at=now(),
        **{name: bindparam(f"of_{name}") for name in _COUNTED},
    )
)


def commit(connection: Connection, job_id: str, outcomes: Sequence[BatchOutcome]) -> None:
    """The last write of the flow: the batches are committed, their counts stand, their payloads go."""
    if outcomes:
        connection.execute(
            _COMMIT,
            [
                {"of_job": job_id, "of_number": outcome.number}
                | {f"of_{name}": getattr(outcome, name) for name in _COUNTED}
                for outcome in outcomes
            ],
        )


_ANY_ON_THE_WAY = select(
    exists().where(batches.c.job_id == _JOB, batches.c.state.in_((BatchState.WAITING, BatchState.RUNNING)))
)


def any_on_the_way(connection: Connection, job_id: str) -> bool:
    """Whether a batch of the job waits for a worker, or runs."""
    return bool(connection.execute(_ANY_ON_THE_WAY, {"of_job": job_id}).scalar())
