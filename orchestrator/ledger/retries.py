"""What of a job can be tried again: its failed documents, where they were kept."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from orchestrator.contracts.report import BatchState
from orchestrator.ledger.binary_results import IN_BINARY
from orchestrator.ledger.clock import now
from orchestrator.ledger.tables import batches, documents, failures, jobs

__all__ = ["Kept", "Remainder", "kept", "remainder", "supersede"]

_WHOLE_JOB = "*"  # in place of a document's id: the failure of the job itself


class Kept(NamedTuple):
    """A failed document that can be tried again.

    Attributes:
        failure: the failure's number.
        payload: the document as it travelled.
        version: of the document's row in the ledger; None where it has none.
    """

    failure: int
    payload: bytes
    version: int | None


class Remainder(NamedTuple):
    """Documents of a job that are not ingested.

    Attributes:
        kept: failed, and can be tried again.
        not_kept: failed, and nothing of them was kept: they were refused when they were read.
        dropped: of batches that ended with their job, cancelled or broken.
    """

    kept: int
    not_kept: int
    dropped: int


def _is_unresolved(job_id: str) -> ColumnElement[bool]:
    return and_(failures.c.job_id == job_id, failures.c.resolved_at.is_(None), failures.c.document_id != _WHOLE_JOB)


def remainder(connection: Connection, job_id: str) -> Remainder:
    """Count what of a job is not ingested."""
    unresolved, with_payload = connection.execute(
        select(func.count(), func.count(failures.c.payload)).where(_is_unresolved(job_id))
    ).one()
    recorded = select(func.count()).where(failures.c.job_id == job_id, failures.c.document_id != _WHOLE_JOB)
    refused = select(jobs.c.failed).where(jobs.c.id == job_id)
    counted = select(func.coalesce(func.sum(batches.c.documents_failed), 0)).where(batches.c.job_id == job_id)
    cancelled = select(func.coalesce(func.sum(batches.c.documents), 0)).where(
        batches.c.job_id == job_id, batches.c.state == BatchState.CANCELLED
    )
    # A job that breaks fails all its open batches, and one failure stands for them.
    unrecorded = refused.scalar_subquery() + counted.scalar_subquery() - recorded.scalar_subquery()
    broken, lost = connection.execute(select(unrecorded, cancelled.scalar_subquery())).one()
    return Remainder(with_payload, unresolved - with_payload, max(0, broken) + lost)


def kept(connection: Connection, job_id: str, *, after: int, limit: int) -> Iterator[Kept]:
    """The documents that can be tried again, by number of their failure; each is read when it is asked for."""
    numbers = connection.execute(
        select(failures.c.id)
        .where(_is_unresolved(job_id), failures.c.payload.is_not(None), failures.c.id > after)
        .order_by(failures.c.id)
        .limit(limit)
    ).scalars()
    is_known = and_(documents.c.collection == failures.c.collection, documents.c.id == failures.c.document_id)
    for number in numbers.all():
        row = connection.execute(
            select(failures.c.id, failures.c.payload, documents.c.version)
            .select_from(failures.outerjoin(documents, is_known))
            .where(failures.c.id == number, failures.c.payload.is_not(None))
            .execution_options(**IN_BINARY)
        ).one_or_none()
        if row is not None:
            yield Kept._make(row)


def supersede(connection: Connection, numbers: Sequence[int]) -> None:
    """Resolve failures whose documents were ingested since, as a later job read them."""
    if numbers:
        connection.execute(update(failures).where(failures.c.id.in_(numbers)).values(resolved_at=now(), payload=None))
