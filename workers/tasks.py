"""The Celery tasks: decode, call, encode. What they do is in the files they call."""

from __future__ import annotations

from typing import Any

from structlog.contextvars import bind_contextvars

from orchestrator.contracts.messages import (
    COMMIT,
    FINISH,
    OPTIMIZE,
    RECONCILE,
    TRANSFORM,
    CommitMessage,
    FinishMessage,
    OptimizeMessage,
    TransformMessage,
)
from orchestrator.contracts.traces import enqueued_at
from workers.app import app, context
from workers.commit import commit
from workers.finish import finish
from workers.optimize import optimize
from workers.reconcile import reconcile
from workers.spans import in_span
from workers.transform import transform

__all__ = ["commit_task", "finish_task", "optimize_task", "reconcile_task", "transform_task"]


# Results are kept for an hour to be looked at in Flower; no code reads them.
@app.task(name=TRANSFORM, bind=True, ignore_result=False)
def transform_task(self: Any, **arguments: Any) -> dict[str, Any]:
    """Run one batch."""
    message = TransformMessage.model_validate(arguments)
    bind_contextvars(job=message.job, batch=message.batch)
    with enqueued_at(self.request):
        return transform(context(), message)


@app.task(name=COMMIT, bind=True, ignore_result=False)
def commit_task(self: Any, **arguments: Any) -> dict[str, Any]:
    """Commit one segment."""
    message = CommitMessage.model_validate(arguments)
    bind_contextvars(job=message.job)
    here = context()
    with enqueued_at(self.request):
        return in_span(COMMIT, here.job(message.job), lambda: commit(here, message))


@app.task(name=FINISH, bind=True)
def finish_task(self: Any, **arguments: Any) -> str:
    """Finish a job that has nothing left to do."""
    message = FinishMessage.model_validate(arguments)
    bind_contextvars(job=message.job)
    with enqueued_at(self.request):
        return finish(context(), message.job)


@app.task(name=OPTIMIZE, time_limit=None)  # an index over millions of nodes takes as long as it takes
def optimize_task(**arguments: Any) -> str:
    """Index a collection that has grown."""
    message = OptimizeMessage.model_validate(arguments)
    bind_contextvars(job=message.job)
    return optimize(context(), message.job)


@app.task(name=RECONCILE, send_events=False)  # every few seconds: not worth a line in Flower
def reconcile_task() -> dict[str, Any]:
    """Look for what has stalled."""
    return reconcile(context())
