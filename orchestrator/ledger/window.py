"""The window: how many of a job's batches wait for a worker or are under way, so that no job keeps all workers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, and_, bindparam, func, select, update

from orchestrator.contracts.report import BatchState
from orchestrator.ledger.batches import is_open
from orchestrator.ledger.clock import now
from orchestrator.ledger.statements import advisory_lock
from orchestrator.ledger.tables import batches

__all__ = ["Published", "hold_back", "publish_next", "put_back"]

_IN_WINDOW = (BatchState.WAITING, BatchState.RUNNING, BatchState.RETRYING, BatchState.TRANSFORMED)
_JOB: BindParameter[str] = bindparam("of_job")


class Published(NamedTuple):
    """A batch whose message is to be sent."""

    number: int
    documents: int


_COUNT_UNFINISHED = select(func.count()).where(batches.c.job_id == _JOB, batches.c.state.in_(_IN_WINDOW))
_IS_PENDING = and_(batches.c.job_id == _JOB, batches.c.state == BatchState.PENDING, is_open(_JOB, paused=False))
# Not a subquery of the update: Postgres may run one again for every row, each time past the limit.
_NEXT = select(batches.c.number).where(_IS_PENDING).order_by(batches.c.number).limit(bindparam("of_limit"))
_TO_WAITING = (
    update(batches)
    .where(batches.c.number.in_(bindparam("of_numbers", expanding=True)))
    .values(state=BatchState.WAITING, published_at=now(), owner=None)
    .returning(batches.c.number, batches.c.documents)
)
_PUBLISH = _TO_WAITING.where(_IS_PENDING)
_PUT_BACK = _TO_WAITING.where(batches.c.job_id == _JOB, batches.c.state == BatchState.TRANSFORMED)


def publish_next(connection: Connection, job_id: str, window: int) -> list[Published]:
    """Mark pending batches as waiting, until `window` are unfinished; the caller sends their messages after commit."""
    # Who counts at the same time would fill the same gap.
    advisory_lock(connection, f"docmill.window.{job_id}")
    unfinished: int = connection.execute(_COUNT_UNFINISHED, {"of_job": job_id}).scalar_one()
    if unfinished >= window:
        return []
    chosen = connection.execute(_NEXT, {"of_job": job_id, "of_limit": window - unfinished}).scalars()
    return _published(connection, _PUBLISH, job_id, chosen.all())


def _published(connection: Connection, to_waiting: Any, job_id: str, numbers: Sequence[int]) -> list[Published]:
    rows = connection.execute(to_waiting, {"of_job": job_id, "of_numbers": numbers})
    return sorted(Published(*row) for row in rows)


def hold_back(connection: Connection, job_id: str) -> None:
    """Batches of a paused job that wait for a worker are pending again: their messages are refused on arrival."""
    connection.execute(
        update(batches)
        .where(
            batches.c.job_id == job_id,
            batches.c.state.in_((BatchState.WAITING, BatchState.RETRYING)),
            is_open(job_id, paused=True),
        )
        .values(state=BatchState.PENDING)
    )


def put_back(connection: Connection, job_id: str, numbers: Sequence[int], reason: str) -> list[Published]:
    """Transformed batches whose nodes are lost go back to be run again, without a strike."""
    found = _published(connection, _PUT_BACK, job_id, numbers)
    connection.execute(
        update(batches)
        .where(batches.c.job_id == job_id, batches.c.number.in_([batch.number for batch in found]))
        .values(reason=reason)
    )
    return found
