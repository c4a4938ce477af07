"""Transform: lease a batch, run the chain, lay the nodes down in Redis, and count the batch once."""

from __future__ import annotations

import random
from typing import Any

import structlog
from redis.exceptions import RedisError

from orchestrator.contracts.errors import ConfigurationError, TransientError
from orchestrator.contracts.failpoints import failpoint
from orchestrator.contracts.messages import TransformMessage
from orchestrator.contracts.payload import decode_payload
from orchestrator.contracts.report import BatchState
from orchestrator.ledger import batches, control
from orchestrator.ledger.batches import Lease
from orchestrator.ledger.engine import begin
from workers.blob import encode_result
from workers.chain import BatchResult, Usage
from workers.context import WorkerContext
from workers.finish import finish
from workers.gather import gather
from workers.patience import LEDGER_AWAY, patiently
from workers.poison import give_up, halve_or_give_up

__all__ = ["transform"]

_log = structlog.get_logger(__name__)
_FIRST_RETRY_SECONDS = 2.0
_LONGEST_RETRY_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 3600.0  # that a service may ask for


def transform(context: WorkerContext, message: TransformMessage) -> dict[str, Any]:
    """Run one batch; returns a small summary. Whatever goes wrong with the batch is written to the ledger.

    Raises:
        SQLAlchemyError, ServiceUnreachable: the ledger does not answer. The lease runs out, and another takes it.
    """
    held = patiently(lambda: _lease(context, message))
    if held is None:
        return {"skipped": "done, cancelled, or run by another worker"}
    failpoint("transform.leased")
    usage = Usage()
    try:
        with context.heartbeat.beating():
            with usage.collected():  # an embedder may have to ask how long its vectors are
                chain = context.chain(held.job_id)
            result = chain.run(decode_payload(held.payload), usage)
            failpoint("transform.chained")
            blob = encode_result(result)
            context.aggregator.store(held.job_id, held.number, held.attempt, blob)
            failpoint("transform.stored")
    except ConfigurationError as error:
        return _abort(context, held, usage, error)
    except (TransientError, RedisError, *LEDGER_AWAY) as error:
        return _retry(context, held, usage, error)
    except Exception as error:  # noqa: BLE001 - the task boundary: the batch is to blame, and is taken apart
        _log.warning("batch failed", job=held.job_id, batch=held.number, attempt=held.attempt, error=repr(error))
        return halve_or_give_up(context, held, error, usage.as_counts())
    return _hand_over(context, held, result, len(blob), usage)


def _lease(context: WorkerContext, message: TransformMessage) -> Lease | None:
    settings = context.settings
    with begin(context.engine) as connection:
        return batches.lease(
            connection,
            message.job,
            message.batch,
            context.owner,
            stale_after=settings.stale_after,
            max_attempts=settings.max_attempts,
        )


def _hand_over(
    context: WorkerContext, held: Lease, result: BatchResult, blob_bytes: int, usage: Usage
) -> dict[str, Any]:
    """Fence the result by its lease, count it, and ask for a commit when enough has gathered."""
    if not patiently(lambda: _mark_transformed(context, held, usage)):
        finish(context, held.job_id)
        return {"skipped": "the lease was lost: another worker's result counts"}
    failpoint("transform.marked")
    gather(context, held, nodes=result.node_count, tokens=usage.tokens_embedding, blob_bytes=blob_bytes)
    return {
        "documents": len(result.documents),
        "nodes": result.node_count,
        "tokens": usage.tokens_embedding,
        "cached": usage.cache_hits,
        "failed": sum(1 for document in result.documents if document.failure),
    }


def _mark_transformed(context: WorkerContext, held: Lease, usage: Usage) -> bool:
    with begin(context.engine) as connection:
        counts = batches.mark_transformed(connection, held, usage.as_counts())
        if not counts:
            control.cancel_batches(connection, held.job_id)
    return counts


def _retry(context: WorkerContext, held: Lease, usage: Usage, error: Exception) -> dict[str, Any]:
    """Try again later, with backoff and jitter; give up after as many tries as the settings allow."""
    reason = f"{type(error).__name__}: {error}"
    if held.retries + 1 >= context.settings.max_retries:
        return give_up(context, held, error, usage.as_counts())
    delay = _retry_delay(held.retries, getattr(error, "retry_after", None))
    with begin(context.engine) as connection:
        batches.settle(connection, held, BatchState.RETRYING, reason, retry_in=delay, paid=usage.as_counts())
    _log.info("batch will be retried", job=held.job_id, batch=held.number, seconds=round(delay, 1), reason=reason)
    return {"retrying": reason, "seconds": round(delay, 1)}


def _retry_delay(retries: int, asked: float | None) -> float:
    """Seconds until the next try; at least what the service asked for, spread so that not all batches come at once."""
    backoff = min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2**retries) * random.uniform(0.75, 1.25)  # noqa: S311
    wanted = min(asked or 0.0, _LONGEST_WAIT_SECONDS) * random.uniform(1.0, 1.1)  # noqa: S311
    return float(max(backoff, wanted))


def _abort(context: WorkerContext, held: Lease, usage: Usage, error: ConfigurationError) -> dict[str, Any]:
    """The spec itself cannot be run: every batch would fail like this one, so the job ends here."""
    with begin(context.engine) as connection:
        batches.charge(connection, held, usage.as_counts())
        control.abort(connection, held.job_id, error)
    finish(context, held.job_id)
    return {"aborted": str(error)}
