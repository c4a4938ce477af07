"""Poison: a batch that fails as a whole is halved, until the document to blame stands alone in the failures table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.contracts.errors import PayloadError
from orchestrator.contracts.failpoints import failpoint
from orchestrator.contracts.logs import get_logger
from orchestrator.contracts.payload import BatchDocument, decode_payload, encode_payload
from orchestrator.contracts.report import BatchState
from orchestrator.ledger import aliases, batches
from orchestrator.ledger.batches import Lease, NewBatch
from orchestrator.ledger.engine import begin
from orchestrator.ledger.failures import Failure, record
from orchestrator.ledger.payments import Cost
from workers.context import WorkerContext
from workers.finish import finish
from workers.gather import gather

__all__ = ["each_alone", "give_up", "halve_or_give_up"]

_log = get_logger(__name__)


def halve_or_give_up(context: WorkerContext, held: Lease, error: BaseException, cost: Cost) -> dict[str, Any]:
    """Put two smaller batches in place of this one; or, if it holds one document, record why that one failed."""
    try:
        documents = decode_payload(held.payload)
    except PayloadError:
        documents = []
    if len(documents) < 2:
        return give_up(context, held, error, cost)
    reason = f"{type(error).__name__}: {error}"
    failpoint("poison.failed")
    middle = len(documents) // 2
    with begin(context.engine) as connection:
        if batches.settle(connection, held, BatchState.HALVED, reason, cost=cost):
            batches.add(connection, held.job_id, [_part(held, documents[:middle]), _part(held, documents[middle:])])
    _log.info(
        "batch halved", job=held.job_id, batch=held.number, attempt=held.attempt, documents=len(documents), error=error
    )
    failpoint("poison.halved")
    _go_on(context, held)
    return {"halved": reason, "documents": len(documents)}


def give_up(context: WorkerContext, held: Lease, error: BaseException, cost: Cost) -> dict[str, Any]:
    """Record every document of the batch as failed."""
    try:
        documents = decode_payload(held.payload)
    except PayloadError:
        documents = []
    names = [document.id for document in documents] or [f"(batch {held.number}: its payload cannot be read)"]
    found = [Failure.of(name, error, stage="transform") for name in names]
    job = context.job(held.job_id)
    with begin(context.engine) as connection:
        has_aliases = aliases.hold(connection, job)
        if batches.settle(connection, held, BatchState.FAILED, f"{type(error).__name__}: {error}", cost=cost):
            record(
                connection,
                held.job_id,
                found,
                attempts=held.tries,
                first_at=held.first_started_at,
                payloads=each_alone(documents),
            )
            if has_aliases:
                aliases.promote(connection, job, [document.id for document in documents])
    who = {"document": names[0]} if len(names) == 1 else {"documents": len(names)}
    _log.warning("documents failed", job=held.job_id, batch=held.number, attempt=held.attempt, error=error, **who)
    failpoint("poison.recorded")
    _go_on(context, held)
    return {"failed": len(names), "reason": str(error)}


def each_alone(documents: Iterable[BatchDocument]) -> dict[str, bytes]:
    """{document id: a payload of this document alone}, to be kept with its failure."""
    return {document.id: encode_payload([document]) for document in documents}


def _part(held: Lease, documents: list[BatchDocument]) -> NewBatch:
    weight = sum(len(document.content) for document in documents)
    return NewBatch(encode_payload(documents), len(documents), weight, held.first_started_at)


def _go_on(context: WorkerContext, held: Lease) -> None:
    """The batch has ended without nodes: its place in the window is free, and the job may be done."""
    gather(context, held)
    context.fill_window(held.job_id)
    finish(context, held.job_id)
