"""Optimize: build a collection's search index once it has grown, after the job that made it grow."""

from __future__ import annotations

from workers.context import WorkerContext

__all__ = ["optimize"]


def optimize(context: WorkerContext, job_id: str) -> str:
    """Index the job's collection if it is large enough and has no index; says what was done."""
    job = context.job(job_id)
    store = context.store_of(job.spec)
    built = store is not None and store.optimize(job.collection, context.settings.hnsw_rows)
    return f"indexed {job.collection}" if built else "nothing to do"
