"""Reconcile: look at the ledger for what has stalled, and move it. Run every few seconds, by one worker at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kombu.exceptions import KombuError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.contracts.addresses import redacted
from orchestrator.contracts.errors import DocmillError, ServiceUnreachable, TerminalError
from orchestrator.contracts.failpoints import failpoint
from orchestrator.contracts.logs import get_logger
from orchestrator.contracts.queues import TRANSFORM_QUEUE, send_commit
from orchestrator.contracts.report import JobState
from orchestrator.ledger import control, jobs, stalled
from orchestrator.ledger.engine import begin
from orchestrator.ledger.payments import Cost
from orchestrator.ledger.window import hold_back
from workers.context import WorkerContext
from workers.finish import finish
from workers.metrics.measured import count
from workers.metrics.names import RECONCILED
from workers.poison import halve_or_give_up

__all__ = ["reconcile"]

_log = get_logger(__name__)
_LOCK_KEY = "docmill:reconciling"
_LOCK_SECONDS = 60
_SURELY_LOST_AFTER_SECONDS = 300.0  # a message not taken for so long was lost, whatever its queue holds


class WorkerLost(TerminalError):
    """The process that ran the batch died, each time it was tried."""


def reconcile(context: WorkerContext) -> dict[str, Any]:
    """Set moving whatever has stalled; returns how much of what. Nothing here is needed while nothing breaks."""
    redis = context.aggregator.redis
    # It spares work, no more: two at once move nothing twice. So it goes soon, should its holder die or take long.
    if not redis.set(_LOCK_KEY, context.owner, nx=True, px=round(1000 * context.settings.stale_after)):
        return {"skipped": "another worker is at it"}
    failpoint("reconcile.begun")
    try:
        looks: dict[str, Callable[[WorkerContext], int]] = {
            "abandoned": _abandoned,
            "exhausted": _exhausted,
            "messages": _lost_messages,
            "commits": _forgotten_commits,
            "clients": _vanished_clients,
            "jobs": _open_jobs,
        }
        moved = {name: found for name, look in looks.items() if (found := _safely(name, look, context))}
        failpoint("reconcile.moved")
    finally:
        redis.delete(_LOCK_KEY)
    for name, amount in moved.items():
        count(RECONCILED, name, amount)
    if moved:
        _log.info("reconciled", **moved)
    return moved


def _safely(name: str, look: Callable[[WorkerContext], int], context: WorkerContext) -> int:
    """Look; what keeps one look from working must not keep the others from it."""
    try:
        return look(context)
    except (DocmillError, SQLAlchemyError, RedisError, KombuError, OSError) as error:
        _log.warning("reconciling failed", look=name, error=error)
        return 0


def _queued(context: WorkerContext) -> int:
    """Messages in the queue of transforms that no worker has taken.

    Raises:
        ServiceUnreachable: the broker does not answer.
    """
    # A connection for this question alone: on RabbitMQ a queue that is not there closes the channel.
    with context.app.connection_for_read() as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=context.settings.connect_timeout)
            return int(connection.default_channel.queue_declare(TRANSFORM_QUEUE, passive=True).message_count)
        except connection.channel_errors:
            return 0  # an empty Redis list does not exist
        except connection.connection_errors as error:
            raise ServiceUnreachable("broker", redacted(context.settings.broker_url or ""), repr(error)) from error


def _abandoned(context: WorkerContext) -> int:
    """Batches whose worker is dead, and those whose retry is due."""
    settings = context.settings
    with begin(context.engine) as connection:
        found = stalled.abandoned(connection, stale_after=settings.stale_after, max_attempts=settings.max_attempts)
    if found:
        failpoint("reconcile.abandoned")
    for job_id, published in found.items():
        context.publish(job_id, published)
    return sum(map(len, found.values()))


def _exhausted(context: WorkerContext) -> int:
    """Batches that killed their worker as often as is allowed."""
    settings = context.settings
    with begin(context.engine) as connection:
        leases = stalled.exhausted(
            connection, context.owner, stale_after=settings.stale_after, max_attempts=settings.max_attempts
        )
    if leases:
        failpoint("reconcile.exhausted")
    for held in leases:
        error = WorkerLost(f"its worker process died {settings.max_attempts} times while running it")
        error.summary = str(error)
        halve_or_give_up(context, held, error, Cost())
    return len(leases)


def _lost_messages(context: WorkerContext) -> int:
    """Batches that wait for a message nobody will ever take."""
    older_than = _SURELY_LOST_AFTER_SECONDS if _queued(context) else context.settings.lost_after
    with begin(context.engine) as ledger:
        found = stalled.lost_messages(ledger, older_than=older_than)
    if found:
        failpoint("reconcile.lost")
    for job_id, published in found.items():
        context.publish(job_id, published)
    return sum(map(len, found.values()))


def _forgotten_commits(context: WorkerContext) -> int:
    """Batches whose nodes wait for a commit that nobody sent, or that got lost."""
    with begin(context.engine) as connection:
        found = stalled.forgotten_commits(connection, older_than=context.settings.forgotten_after)
    if found:
        failpoint("reconcile.forgotten")
    size = context.settings.segment_batches
    for job_id, numbers in found.items():
        for start in range(0, len(numbers), size):
            send_commit(context.app, job_id, numbers[start : start + size])
    return sum(map(len, found.values()))


def _vanished_clients(context: WorkerContext) -> int:
    """Jobs whose source will not be read to its end."""
    with begin(context.engine) as connection:
        # More patience than with a worker: a client that is wrongly given up cannot go on.
        found = stalled.vanished_clients(connection, stale_after=1.5 * context.settings.stale_after)
        for job_id in found:
            jobs.fail(connection, job_id, "the client vanished while it read the source; ingest again to complete it")
    return len(found)


def _open_jobs(context: WorkerContext) -> int:
    """Jobs with room in their window, and jobs with nothing left to do."""
    with begin(context.engine) as connection:
        found = stalled.open_jobs(connection)
    finished = 0
    for job in found:
        if job.state is JobState.CANCELLING:
            with begin(context.engine) as connection:
                control.cancel_batches(connection, job.id)
        if job.has_open and job.paused:
            with begin(context.engine) as connection:
                hold_back(connection, job.id)
        elif job.has_open and job.state is not JobState.CANCELLING:
            context.fill_window(job.id)
        elif job.state is not JobState.ENQUEUING:
            finish(context, job.id)
            finished += 1
    return finished
