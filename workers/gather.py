"""Gather: count a batch that has ended, and send the commit of a segment once enough has gathered."""

from __future__ import annotations

from orchestrator.contracts.failpoints import failpoint
from orchestrator.contracts.queues import send_commit
from orchestrator.ledger import batches
from orchestrator.ledger.batches import Lease
from orchestrator.ledger.engine import begin
from workers.context import WorkerContext

__all__ = ["gather"]


def gather(
    context: WorkerContext,
    held: Lease,
    *,
    nodes: int = 0,
    tokens: int = 0,
    blob_bytes: int = 0,
    others_wait: bool = False,
) -> None:
    """Count the batch; commit the segment if it is full or old, or if nothing else of the job is on its way.

    The last question comes after the counting: of two workers that end their batches at once, the later to ask sees
    both counted, and takes them along. It is spared where `others_wait` for a worker: those end later, and ask. Should
    this process stand still here for as long as they take, the reconciler finds the batch.
    """
    aggregator = context.aggregator
    segment = aggregator.count(held.job_id, held.number, nodes=nodes, tokens=tokens, blob_bytes=blob_bytes)
    failpoint("gather.counted")
    if not segment:
        if others_wait:
            return
        with begin(context.engine) as connection:
            if batches.any_on_the_way(connection, held.job_id):
                return
        segment = aggregator.take(held.job_id)
    if segment:
        failpoint("gather.taken")
        send_commit(context.app, held.job_id, segment)
        failpoint("gather.sent")
