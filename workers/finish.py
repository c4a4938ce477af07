"""Finish: whoever ends the last batch finishes the job. Called by many, done by one."""

from __future__ import annotations

from orchestrator.contracts.failpoints import failpoint
from orchestrator.contracts.logs import get_logger
from orchestrator.contracts.queues import send_optimize
from orchestrator.ledger import aliases, documents, jobs
from orchestrator.ledger.engine import begin
from orchestrator.ledger.jobs import Finish
from workers.context import WorkerContext

__all__ = ["finish"]

_log = get_logger(__name__)
_DELETED_AT_ONCE = 1000  # documents a transaction


def finish(context: WorkerContext, job_id: str) -> Finish:
    """Finish the job if nothing of it is open: remove what vanished, close it, and tell the waiters."""
    failpoint("finish.begun")
    outcome = _step(context, job_id)
    while outcome is Finish.DELETE:
        failpoint("finish.deleted")
        outcome = _step(context, job_id)
    if outcome is Finish.DONE:
        failpoint("finish.closed")
        _log.info("job finished", job=job_id)
        context.aggregator.forget(job_id)
        send_optimize(context.app, job_id)
    return outcome


def _step(context: WorkerContext, job_id: str) -> Finish:
    """Close the job, or remove one page of what vanished from its source; one transaction."""
    with begin(context.engine) as connection:
        outcome = jobs.finish(connection, job_id)
        if outcome is not Finish.DELETE:
            return outcome
        job = context.job(job_id)
        gone = documents.vanished(connection, job_id, _DELETED_AT_ONCE)
        # What stays of their aliases is ingested first: no content is missing from search meanwhile.
        if not aliases.promote_from_vanished(connection, job, gone):
            store = context.store_of(job.spec)
            nodes = store.remove_stale(connection, job.collection, {id: [] for id in gone}) if store else 0
            deleted = documents.delete_documents(connection, job.collection, gone)
            jobs.add_deleted(connection, job_id, documents=deleted, nodes=nodes)
            failpoint("finish.deleting")
            return Finish.DELETE
    context.fill_window(job_id)
    return Finish.OPEN
