"""The failures table: every document that was refused, with the stage and the reason."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from orchestrator.contracts.errors import DocumentError
from orchestrator.ledger.storable import storable
from orchestrator.ledger.tables import failures

__all__ = ["Failure", "FailureRow", "failures_of", "record"]

_SHOWN_ID_CHARACTERS = 200
# Of the columns: stage and names may be those of anybody's transformation.
_STAGE_CHARACTERS = 32
_NAME_CHARACTERS = 200
_TRACEBACK_CHARACTERS = 8000


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
    """A failure as it stands in the table, with how often the document was tried."""

    attempts: int = 1
    created_at: datetime | None = None


def _optional(text: str | None, limit: int) -> str | None:
    return None if text is None else storable(text, limit)


def record(connection: Connection, job_id: str, found: Sequence[Failure], *, attempts: int = 1) -> None:
    """Write failures; one executemany."""
    if found:
        connection.execute(
            insert(failures),
            [
                {
                    "job_id": job_id,
                    "document_id": storable(failure.document_id, _SHOWN_ID_CHARACTERS),
                    "stage": storable(failure.stage, _STAGE_CHARACTERS),
                    "transformation": _optional(failure.transformation, _NAME_CHARACTERS),
                    "error": storable(failure.error, _NAME_CHARACTERS),
                    "message": storable(failure.message),
                    "traceback": _optional(failure.traceback, _TRACEBACK_CHARACTERS),
                    "attempts": attempts,
                }
                for failure in found
            ],
        )


def failures_of(connection: Connection, job_id: str, *, limit: int = 1000, offset: int = 0) -> list[FailureRow]:
    """The failures of a job, in the order they were written."""
    names = FailureRow.__dataclass_fields__
    rows = connection.execute(
        select(*(failures.c[name] for name in names))
        .where(failures.c.job_id == job_id)
        .order_by(failures.c.id)
        .limit(limit)
        .offset(offset)
    )
    return [FailureRow(**row) for row in rows.mappings()]
