"""Transform: lease a batch, run the chain, lay the nodes down in Redis, and count the batch once."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import Connection
from structlog.contextvars import bind_contextvars

from orchestrator.contracts.errors import ConfigurationError, TokenBudgetExceeded, TransientError
from orchestrator.contracts.failpoints import failpoint
from orchestrator.contracts.logs import get_logger
from orchestrator.contracts.messages import TRANSFORM, TransformMessage
from orchestrator.contracts.payload import decode_payload
from orchestrator.contracts.report import BatchState
from orchestrator.contracts.traces import attempt_identity
from orchestrator.ledger import batches, control, payments
from orchestrator.ledger.batches import Lease, Marked
from orchestrator.ledger.engine import begin
from workers.blob import pack_result
from workers.chain import BatchBill, BatchResult
from workers.context import WorkerContext
from workers.finish import finish
from workers.gather import gather
from workers.metrics.measured import count, timed
from workers.metrics.names import RETRIES, STAGE_SECONDS
from workers.patience import LEDGER_AWAY, patiently
from workers.poison import give_up, halve_or_give_up
from workers.spans import in_span
from workers.tokens.spending import Spending, collecting

__all__ = ["transform"]

_log = get_logger(__name__)
_FIRST_RETRY_SECONDS = 2.0
_LONGEST_RETRY_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 3600.0  # that a service may ask for


def transform(context: WorkerContext, message: TransformMessage) -> dict[str, Any]:
    """Run one batch; returns a small summary. Whatever goes wrong with the batch is written to the ledger.

    Raises:
        SQLAlchemyError, ServiceUnreachable: the ledger does not answer. The lease runs out, and another takes it.
    """
    with timed(STAGE_SECONDS, "lease"):
        held, spending = patiently(lambda: _lease(context, message))
    if held is None:
        return {"skipped": "done, cancelled, or run by another worker"}
    bind_contextvars(attempt=held.attempt)
    failpoint("transform.leased")
    return in_span(
        TRANSFORM,
        context.job(held.job_id),
        lambda: _run(context, held, BatchBill(spending)),
        identity=attempt_identity(held.job_id, held.number, held.attempt),
        batch=held.number,
        attempt=held.attempt,
    )


def _run(context: WorkerContext, held: Lease, bill: BatchBill) -> dict[str, Any]:
    """Run the chain, and hand over what comes of it, or write down what went wrong."""
    try:
        with context.heartbeat.beating(partial(_beat, held, bill)):
            with collecting(bill.spending):  # an embedder may have to ask how long its vectors are
                chain = context.chain(held.job_id)
            result = chain.run(decode_payload(held.payload), bill)
            failpoint("transform.chained")
            blob = pack_result(result, context.job(held.job_id).collection)
            with timed(STAGE_SECONDS, "store"):
                context.aggregator.store(held.job_id, held.number, held.attempt, blob)
            failpoint("transform.stored")
    except ConfigurationError as error:
        return _abort(context, held, bill, error)
    except TokenBudgetExceeded as error:
        return _stop(context, held, bill, error)
    except (TransientError, RedisError, *LEDGER_AWAY) as error:
        return _retry(context, held, bill, error)
    except Exception as error:  # noqa: BLE001 - the task boundary: the batch is to blame, and is taken apart
        _log.warning("batch failed", error=error)
        return halve_or_give_up(context, held, error, bill.cost)
    return _hand_over(context, held, result, len(blob), bill)


def _lease(context: WorkerContext, message: TransformMessage) -> tuple[Lease | None, Spending]:
    """The right to run the batch, and what it may spend: what others of the job have spent already is counted."""
    settings = context.settings
    budget = context.job(message.job).spec.token_budget
    with begin(context.engine) as connection:
        held = batches.lease(
            connection,
            message.job,
            message.batch,
            context.owner,
            stale_after=settings.stale_after,
            max_attempts=settings.max_attempts,
        )
        before = payments.spent(connection, message.job) if held and budget is not None else 0
    return held, Spending(budget, before)


def _beat(held: Lease, bill: BatchBill, connection: Connection) -> None:
    """Say what has been paid so far, which would be forgotten if the process died; and hear what others have paid."""
    batches.charge(connection, held, bill.cost)
    if bill.spending.budget is not None:
        bill.spending.before = payments.spent(connection, held.job_id, besides=(held.number, held.attempt))


def _hand_over(
    context: WorkerContext, held: Lease, result: BatchResult, blob_bytes: int, bill: BatchBill
) -> dict[str, Any]:
    """Fence the result by its lease, count it, and ask for a commit when enough has gathered."""
    marked = patiently(lambda: _mark_transformed(context, held, bill))
    if not marked.counts:
        finish(context, held.job_id)
        return {"skipped": "the lease was lost: another worker's result counts"}
    failpoint("transform.marked")
    tokens = bill.spending.total.total
    gather(
        context,
        held,
        nodes=result.node_count,
        tokens=tokens,
        blob_bytes=blob_bytes,
        others_wait=marked.others_wait,
    )
    return {
        "documents": len(result.documents),
        "nodes": result.node_count,
        "tokens": tokens,
        "cached": bill.cache_hits,
        "failed": sum(1 for document in result.documents if document.failure),
    }


def _mark_transformed(context: WorkerContext, held: Lease, bill: BatchBill) -> Marked:
    with begin(context.engine) as connection:
        marked = batches.mark_transformed(connection, held, bill.cost)
        if not marked.counts:
            control.cancel_batches(connection, held.job_id)
    return marked


def _retry(context: WorkerContext, held: Lease, bill: BatchBill, error: Exception) -> dict[str, Any]:
    """Try again later, with backoff and jitter; give up after as many tries as the settings allow."""
    reason = f"{type(error).__name__}: {error}"
    if held.retries + 1 >= context.settings.max_retries:
        return give_up(context, held, error, bill.cost)
    delay = _retry_delay(held.retries, getattr(error, "retry_after", None))
    with begin(context.engine) as connection:
        batches.settle(connection, held, BatchState.RETRYING, reason, retry_in=delay, cost=bill.cost)
    count(RETRIES, type(error).__name__)
    _log.info("batch will be retried", seconds=round(delay, 1), error=error)
    return {"retrying": reason, "seconds": round(delay, 1)}


def _retry_delay(retries: int, asked: float | None) -> float:
    """Seconds until the next try; at least what the service asked for, spread so that not all batches come at once."""
    backoff = min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2**retries) * random.uniform(0.75, 1.25)  # noqa: S311
    wanted = min(asked or 0.0, _LONGEST_WAIT_SECONDS) * random.uniform(1.0, 1.1)  # noqa: S311
    return float(max(backoff, wanted))


def _abort(context: WorkerContext, held: Lease, bill: BatchBill, error: ConfigurationError) -> dict[str, Any]:
    """The spec itself cannot be run: every batch would fail like this one, so the job ends here."""
    with begin(context.engine) as connection:
        batches.charge(connection, held, bill.cost)
        control.abort(connection, held.job_id, error)
    finish(context, held.job_id)
    return {"aborted": str(error)}


def _stop(context: WorkerContext, held: Lease, bill: BatchBill, error: TokenBudgetExceeded) -> dict[str, Any]:
    """The job may pay for nothing more: this batch ends, and all that are not begun; what others run is committed."""
    with begin(context.engine) as connection:
        batches.charge(connection, held, bill.cost)
        control.stop(connection, held, error)
    gather(context, held)
    finish(context, held.job_id)
    return {"stopped": str(error)}
