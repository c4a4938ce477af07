"""What the pages are told, as plain data: seconds and counts; how they are written is the page's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.contracts.prices import Price, cost
from orchestrator.contracts.report import TERMINAL_JOB_STATES
from orchestrator.ledger.failures import FailureRow
from orchestrator.ledger.jobs import JobRow
from orchestrator.ledger.listing import BatchLine, JobLine
from orchestrator.ledger.stages import Stages, Throughput

__all__ = ["batch", "details", "failure", "job", "stages", "throughput"]


def job(line: JobLine, prices: Sequence[Price]) -> dict[str, Any]:
    """A job, as the list shows it."""
    looked = line.cache.hits + line.cache.misses
    return {
        "id": line.id,
        "collection": line.collection,
        "state": line.state,
        "paused": line.paused,
        "is_open": line.state not in TERMINAL_JOB_STATES,
        "documents": line.documents.model_dump(),
        "batches_done": line.batches_done,
        "batches_total": line.batches_total,
        "nodes": line.nodes,
        "tokens": line.tokens,
        "cost": cost(line.bill, prices) if prices else None,
        "cache_hit_rate": line.cache.hits / looked if looked else None,
        "documents_per_second": line.documents_per_second,
        "seconds_left": line.seconds_left,
        "started_by": line.started_by,
        "age": line.age,
    }


def details(row: JobRow, line: JobLine) -> dict[str, Any]:
    """What the page of a job says besides."""
    return {
        "error": row.error,
        "priority": row.priority,
        "strategy": row.spec.strategy,
        "created_at": row.created_at.isoformat(),
        "finished_at": row.finished_at.isoformat() if row.finished_at else None,
        "seconds": line.seconds,
        "cache": line.cache.model_dump(),
        "bill": [part.model_dump() for part in line.bill],
        "batch_states": dict(line.batches),
        "spec": row.spec.model_dump(mode="json"),
    }


def stages(found: Stages) -> dict[str, Any]:
    """Where the job's time went."""
    return {
        "seconds": found.seconds,
        "rest": found.rest,
        "stages": [
            {
                "stage": time.stage,
                "seconds": time.seconds,
                "batches": time.batches,
                "per_batch": time.batch_seconds / time.batches if time.batches else None,
            }
            for time in found.stages
        ],
    }


def throughput(found: Throughput) -> dict[str, Any]:
    """Documents by step of time."""
    return {"width": found.width, "documents": list(found.documents)}


def batch(line: BatchLine) -> dict[str, Any]:
    """A batch, as the list shows it."""
    return {
        "number": line.number,
        "state": line.state,
        "reason": line.reason,
        "documents": line.documents,
        "nodes": line.nodes,
        "attempt": line.attempt,
        "owner": line.owner,
        "waited": line.waited,
        "transformed": line.transformed,
        "committed": line.committed,
    }


def failure(row: FailureRow) -> dict[str, Any]:
    """A document that was refused, and why."""
    return {
        "document": row.document_id,
        "stage": row.stage,
        "transformation": row.transformation,
        "error": row.error,
        "message": row.message,
        "traceback": row.traceback,
        "attempts": row.attempts,
        "at": row.created_at.isoformat() if row.created_at else None,
        "can_retry": row.can_retry,
    }
