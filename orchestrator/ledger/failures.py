"""The failures table: every document that was refused, with the stage and the reason."""

import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, exists, func, insert, select, update

from orchestrator.contracts.documents import MAX_ID_BYTES
from orchestrator.contracts.errors import DocumentError
from orchestrator.ledger.clock import now
from orchestrator.ledger.statements import one_of, pages
from orchestrator.ledger.storable import storable
from orchestrator.ledger.tables import failures, jobs

__all__ = ["Failure", "FailureRow", "failures_of", "has_failure", "record", "resolve"]

_SHOWN_ID_CHARACTERS = 200
# Of the columns: stage and names may be those of anybody's transformation.
_STAGE_CHARACTERS = 32
_NAME_CHARACTERS = 200
_TRACEBACK_CHARACTERS = 8000


_ANY_UNRESOLVED = select(
    exists().where(failures.c.collection == bindparam("of_collection"), failures.c.resolved_at.is_(None))
)


@dataclass(frozen=True, slots=True)
class Failure:
    """One document that was refused: where and why."""

    document_id: str
    stage: str
    error: str
    message: str
    transformation: str | None = None
    traceback: str | None = None

    @classmethod
    def of(cls, document_id: str, error: BaseException, *, stage: str, transformation: str | None = None) -> "Failure":
        """From an error. The traceback is kept only where the error is not one of our own making."""
        own = isinstance(error, DocumentError)
        return cls(
            document_id=document_id,
            stage=error.stage if isinstance(error, DocumentError) else stage,
            error=type(error).__name__,
            message=str(error) or repr(error),
            transformation=transformation,
            traceback=None if own else "".join(traceback.format_exception(error)),
        )


@dataclass(frozen=True, slots=True)
class FailureRow(Failure):
    """A failure as it stands in the table.

    Attributes:
        attempts: how often the document was tried.
        first_at: when it was first tried.
        created_at: when it was last tried, and given up.
        resolved_at: when it was ingested after all.
        can_retry: the document itself was kept, and can be tried again without its source.
    """

    attempts: int = 1
    first_at: datetime | None = None
    created_at: datetime | None = None
    resolved_at: datetime | None = None
    can_retry: bool = False


def _optional(text: str | None, limit: int) -> str | None:
    return None if text is None else storable(text, limit)


def _shown_id(id: str) -> str:
    """An id that a document may have is kept whole; one that is itself what is wrong is shortened."""
    fits = len(id) <= MAX_ID_BYTES and len(id.encode("utf-8", "replace")) <= MAX_ID_BYTES
    return storable(id, MAX_ID_BYTES if fits else _SHOWN_ID_CHARACTERS)


def record(
    connection: Connection,
    job_id: str,
    found: Sequence[Failure],
    *,
    attempts: int = 1,
    first_at: datetime | None = None,
    payloads: Mapping[str, bytes] | None = None,
) -> None:
    """Write failures; one executemany.

    Args:
        attempts: how often their documents were tried.
        first_at: when they were first tried, if that was earlier.
        payloads: {document id: the document as a batch of its own}, for those that can be tried again.
    """
    if not found:
        return
    payloads = payloads or {}
    collection = select(jobs.c.collection).where(jobs.c.id == job_id).scalar_subquery()
    connection.execute(
        insert(failures).values(collection=func.coalesce(collection, "")),
        [
            {
                "job_id": job_id,
                "document_id": _shown_id(failure.document_id),
                "stage": storable(failure.stage, _STAGE_CHARACTERS),
                "transformation": _optional(failure.transformation, _NAME_CHARACTERS),
                "error": storable(failure.error, _NAME_CHARACTERS),
                "message": storable(failure.message),
                "traceback": _optional(failure.traceback, _TRACEBACK_CHARACTERS),
                "attempts": attempts,
                "first_at": first_at,
                "payload": payloads.get(failure.document_id),
            }
            for failure in found
        ],
    )


def has_failure(connection: Connection, job_id: str, document_id: str, error: BaseException) -> bool:
    """Whether such an error is recorded for the document."""
    alike = exists().where(
        failures.c.job_id == job_id, failures.c.document_id == document_id, failures.c.error == type(error).__name__
    )
    return bool(connection.execute(select(alike)).scalar())


def failures_of(
    connection: Connection, job_id: str, *, limit: int = 1000, offset: int = 0, include_resolved: bool = True
) -> list[FailureRow]:
    """The failures of a job, in the order they were written."""
    made = {
        "first_at": func.coalesce(failures.c.first_at, failures.c.created_at).label("first_at"),
        "can_retry": failures.c.payload.is_not(None).label("can_retry"),
    }
    query = (
        select(*(made[name] if name in made else failures.c[name] for name in FailureRow.__dataclass_fields__))
        .where(failures.c.job_id == job_id)
        .order_by(failures.c.id)
        .limit(limit)
        .offset(offset)
    )
    if not include_resolved:
        query = query.where(failures.c.resolved_at.is_(None))
    return [FailureRow(**row) for row in connection.execute(query).mappings()]


def resolve(connection: Connection, collection: str, job_number: int, ids: Collection[str]) -> int:
    """The job has committed these documents: what kept them out before is resolved, and their payloads go.

    Failures of jobs enqueued later stay: what they read was newer. Returns how many were resolved.
    """
    if not ids or not connection.execute(_ANY_UNRESOLVED, {"of_collection": collection}).scalar():
        return 0  # as a rule: to ask for each document would take longer than to write it
    earlier = select(jobs.c.id).where(jobs.c.number <= job_number)
    resolved = 0
    for some in pages(ids):
        rows: Any = connection.execute(
            update(failures)
            .where(
                failures.c.collection == collection,
                one_of(connection, failures.c.document_id, some),
                failures.c.resolved_at.is_(None),
                failures.c.job_id.in_(earlier),
            )
            .values(resolved_at=now(), payload=None)
        )
        resolved += int(rows.rowcount)
    return resolved
