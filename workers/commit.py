"""Commit: nodes are upserted, stale ones removed, and the ledger written, for one segment of a job.

Where the vectors live in the ledger's own Postgres, all of it is one transaction. Elsewhere the store is written
first and the ledger last, so a crash in between repeats work and loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from orchestrator.contracts.errors import ConfigurationError, PayloadError, TransientError
from orchestrator.contracts.failpoints import failpoint
from orchestrator.contracts.logs import get_logger
from orchestrator.contracts.messages import CommitMessage
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.packed_nodes import pack_product
from orchestrator.contracts.payload import BatchDocument, decode_payload, encode_payload
from orchestrator.contracts.queues import send_commit
from orchestrator.contracts.traces import attempt_identity, link
from orchestrator.ledger import aliases, batches, control, documents, products, window
from orchestrator.ledger.batches import BatchOutcome, NewBatch
from orchestrator.ledger.documents import DocumentRow, version_of
from orchestrator.ledger.engine import begin
from orchestrator.ledger.failures import record, resolve
from orchestrator.ledger.jobs import JobRow
from orchestrator.ledger.payments import Cost
from orchestrator.ledger.products import Product
from workers.blob import PackedDocument, PackedResult
from workers.context import WorkerContext
from workers.finish import finish
from workers.metrics.measured import timed
from workers.metrics.names import STAGE_SECONDS
from workers.patience import LEDGER_AWAY
from workers.poison import each_alone, halve_or_give_up
from workers.vector_stores import Collection

__all__ = ["commit"]

_log = get_logger(__name__)
_BYTES_AT_ONCE = 1 * 1024 * 1024  # of blobs whose nodes are unpacked together: those of one full batch


def commit(context: WorkerContext, message: CommitMessage) -> dict[str, Any]:
    """Commit the batches of a segment that still wait for it; returns a small summary.

    Raises:
        SQLAlchemyError, ServiceUnreachable: the ledger does not answer; the reconciler sends this commit again.
    """
    job = context.job(message.job)
    with begin(context.engine) as connection:
        attempts = batches.lock_transformed(connection, job.id, message.batches)
    link(attempt_identity(job.id, *item) for item in attempts.items())
    with timed(STAGE_SECONDS, "fetch"):
        results = _fetch(context, job, attempts)
    failpoint("commit.fetched")
    try:
        with timed(STAGE_SECONDS, "commit"):
            outcomes, lost = _write_again(context, job, attempts, results)
    except ConfigurationError as error:  # what keeps these batches out of the store keeps out all others
        with begin(context.engine) as connection:
            control.abort(connection, job.id, error)
        finish(context, job.id)
        return {"aborted": str(error)}
    except (TransientError, *LEDGER_AWAY):
        raise
    except Exception as error:  # noqa: BLE001 - the task boundary: something in these batches cannot be stored
        return _take_apart(context, job, list(attempts), error)
    failpoint("commit.committed")
    context.aggregator.drop(job.id, {outcome.number: attempts[outcome.number] for outcome in outcomes})
    failpoint("commit.dropped")
    context.publish(job.id, lost)
    context.fill_window(job.id)
    failpoint("commit.filled")
    finish(context, job.id)
    return {
        "batches": len(outcomes),
        "nodes": sum(outcome.nodes_upserted for outcome in outcomes),
        "removed": sum(outcome.nodes_removed for outcome in outcomes),
        "lost": len(lost),
    }


def _take_apart(context: WorkerContext, job: JobRow, numbers: Sequence[int], error: Exception) -> dict[str, Any]:
    """Commit batches one by one, until the one to blame stands alone; then halve that."""
    _log.warning("commit failed", batches=len(numbers), error=error)
    if len(numbers) > 1:
        for number in numbers:
            send_commit(context.app, job.id, [number])
        return {"apart": len(numbers), "reason": repr(error)}
    with begin(context.engine) as connection:
        held = batches.reclaim(connection, job.id, numbers[0], context.owner) if numbers else None
    return halve_or_give_up(context, held, error, Cost()) if held else {"skipped": "no longer to be committed"}


def _fetch(context: WorkerContext, job: JobRow, attempts: dict[int, int]) -> dict[int, PackedResult]:
    """{batch number: result}; a damaged blob is as good as a lost one."""
    results = {}
    for number, blob in context.aggregator.blobs(job.id, attempts):
        try:
            results[number] = PackedResult(blob)
        except PayloadError as error:
            _log.warning("result blob is damaged", batch=number, error=error)
    return results


def _write_again(
    context: WorkerContext, job: JobRow, attempts: dict[int, int], results: dict[int, PackedResult]
) -> tuple[list[BatchOutcome], Sequence[window.Published]]:
    """The transaction; again where it turns out that a batch's nodes are damaged, or that the job has to be held."""
    holds_job = any(map(_may_forsake_aliases, results.values()))
    while True:
        try:
            with begin(context.engine) as connection:
                return _write(context, connection, job, attempts, results, holds_job=holds_job)
        except _DamagedNodes as error:  # as good as lost; they do not keep out those of the others
            _log.warning("result blob is damaged", batch=error.batch, error=error)
            del results[error.batch]
        except _AliasesForsaken:
            holds_job = True


def _may_forsake_aliases(result: PackedResult) -> bool:
    """Whether a document of the batch may not stand for its aliases any more; to one that is new, that is rare."""
    return any(made.failure is not None or not made.document.is_new for made in result.documents)


def _write(
    context: WorkerContext,
    connection: Connection,
    job: JobRow,
    attempts: dict[int, int],
    results: dict[int, PackedResult],
    *,
    holds_job: bool,
) -> tuple[list[BatchOutcome], Sequence[window.Published]]:
    """The transaction: (what was committed, what must run again because its nodes are lost).

    Raises:
        _DamagedNodes: a blob cannot be read to its end.
        _AliasesForsaken: aliases are to be promoted, for which the job has to be held from the beginning.
    """
    has_aliases = holds_job and aliases.hold(connection, job)
    waiting = batches.lock_transformed(connection, job.id, list(attempts))
    current = {
        number: results[number] for number in waiting if number in results and waiting[number] == attempts[number]
    }
    gone = [number for number in waiting if number not in results]
    lost = window.put_back(connection, job.id, gone, "its nodes were lost from Redis") if gone else []
    winners = _claim(connection, job, current, has_aliases=has_aliases)
    failpoint("commit.claimed")
    removed = _store_nodes(context, connection, job, current, winners)
    failpoint("commit.removed")
    outcomes = [_outcome(number, result, winners) for number, result in current.items()]
    if outcomes:
        # Which batch a stale node belonged to is not known; the sum is what counts.
        outcomes[0] = outcomes[0].with_removed(removed)
    resolve(connection, job.collection, job.number, winners.sequences)
    failed = _record_failures(connection, job, current)
    owners = [*winners.sequences, *failed]
    if has_aliases:
        aliases.promote(connection, job, owners)
    elif aliases.are_forsaken(connection, job, owners):
        raise _AliasesForsaken
    batches.commit(connection, job.id, outcomes)
    failpoint("commit.written")
    return outcomes, lost


@dataclass(frozen=True, slots=True)
class _Winners:
    """The documents of a segment that may be written, and those that wait for others.

    Attributes:
        sequences, waiting: {id: sequence} of either.
        are_new: the ledger held nothing of those that may be written.
    """

    sequences: dict[str, int]
    waiting: dict[str, int]
    are_new: bool

    def has(self, result: PackedDocument) -> bool:
        return result.failure is None and self.sequences.get(result.document.id) == result.document.sequence

    def of(self, results: Iterable[PackedResult]) -> list[PackedDocument]:
        return [document for result in results for document in result.documents if self.has(document)]

    def waiting_of(self, result: PackedResult) -> int:
        return sum(1 for made in result.documents if self.waiting.get(made.document.id) == made.document.sequence)


def _claim(connection: Connection, job: JobRow, current: dict[int, PackedResult], *, has_aliases: bool) -> _Winners:
    """Write the documents' rows; of one id the document enqueued last wins, in this segment and against others."""
    latest: dict[str, PackedDocument] = {}
    for result in current.values():
        for document in result.documents:
            id = document.document.id
            if document.failure is None and (
                id not in latest or latest[id].document.sequence < document.document.sequence
            ):
                latest[id] = document
    rows = {id: _row(job, document) for id, document in latest.items()}
    waiting = _behind_their_heirs(connection, job, list(current), rows.values()) if has_aliases else {}
    ready = [row for id, row in rows.items() if id not in waiting]
    written = documents.claim(connection, job.collection, job.spec.fingerprint, job.id, ready)
    are_new = all(inserted and latest[id].document.is_new for id, inserted in written.items())
    return _Winners({id: latest[id].document.sequence for id in written}, waiting, are_new)


def _behind_their_heirs(
    connection: Connection, job: JobRow, numbers: Sequence[int], rows: Iterable[DocumentRow]
) -> dict[str, int]:
    """Documents, {id: sequence}, whose aliases are to have nodes before the nodes of both are removed.

    Each is put into a batch behind its heirs, where its nodes come from the cache, and is committed with them.
    """
    heirs = aliases.take_over(connection, job, rows)
    if not heirs:
        return {}
    latest: dict[str, BatchDocument] = {}
    for held in batches.leases_of(connection, job.id, numbers).values():
        for document in decode_payload(held.payload):
            if document.id in heirs and latest.get(document.id, document).sequence <= document.sequence:
                latest[document.id] = document
    together = [[*heirs[id], document] for id, document in latest.items()]
    weights = [sum(len(document.content) for document in group) for group in together]
    new = [NewBatch(encode_payload(group), len(group), weight) for group, weight in zip(together, weights, strict=True)]
    batches.add(connection, job.id, new)
    return {id: document.sequence for id, document in latest.items()}


def _row(job: JobRow, result: PackedDocument) -> DocumentRow:
    document = result.document
    return DocumentRow(
        id=document.id,
        content_hash=document.content_hash,
        body_hash=document.body_hash,
        stamp=document.stamp,
        alias_of=None,
        node_count=result.node_count,
        version=version_of(job.number, document.sequence),
        nodes_hash=result.nodes_hash,
    )


def _record_failures(connection: Connection, job: JobRow, current: dict[int, PackedResult]) -> set[str]:
    """Write what was refused, each with its document, which the batch's payload still holds; returns the ids."""
    failed = {
        number: [document.failure for document in result.documents if document.failure is not None]
        for number, result in current.items()
    }
    leases = batches.leases_of(connection, job.id, [number for number, found in failed.items() if found])
    for number, held in leases.items():
        names = {failure.document_id for failure in failed[number]}
        alone = each_alone(document for document in decode_payload(held.payload) if document.id in names)
        record(
            connection,
            job.id,
            failed[number],
            attempts=held.tries,
            first_at=held.first_started_at,
            payloads=alone,
        )
    return {failure.document_id for found in failed.values() for failure in found}


class _AliasesForsaken(Exception):
    """Documents of the segment stood for others, which nobody had expected."""


class _DamagedNodes(PayloadError):
    """The blob of one batch cannot be read to its end."""

    def __init__(self, batch: int, error: PayloadError) -> None:
        super().__init__(str(error))
        self.batch = batch


def _store_nodes(
    context: WorkerContext, connection: Connection, job: JobRow, current: dict[int, PackedResult], winners: _Winners
) -> int:
    """Upsert the winners' nodes, then remove what is stale of the same documents; returns how many were."""
    if not winners.sequences:
        return 0
    store = context.store_of(job.spec)
    if store is None:
        for group in _winning_nodes(current, winners):
            products.keep(connection, job.id, [_product(*made) for made in group])
            del group  # before the next is unpacked: two of them would be twice the memory
        return 0
    made_by = next(iter(current.values()))
    store.open_collection(connection, Collection(job.collection, made_by.model, made_by.dimension))
    new = store.in_ledger and winners.are_new
    kept: dict[str, list[str]] = {}
    for group in _winning_nodes(current, winners):
        store.upsert(connection, job.collection, [node for _, nodes in group for node in nodes], new=new)
        if not new:
            kept |= {document.id: [node.id for node in nodes] for document, nodes in group}
        del group  # as above
    failpoint("commit.upserted")
    return 0 if new else store.remove_stale(connection, job.collection, kept)


def _winning_nodes(
    current: dict[int, PackedResult], winners: _Winners
) -> Iterator[list[tuple[BatchDocument, list[Node]]]]:
    """The winners with their nodes, those of about one full batch at a time.

    Writers lock nodes in one order within each group alone: that two take the same ones is ruled out before, by the
    rows of the documents, which they hold.

    Raises:
        _DamagedNodes: a blob cannot be read to its end.
    """
    group: list[tuple[BatchDocument, list[Node]]] = []
    size = 0
    for number, result in current.items():
        if group and size + result.size > _BYTES_AT_ONCE:
            yield group
            group, size = [], 0
        try:
            group += [(packed.document, nodes) for packed, nodes in result.unpack() if winners.has(packed)]
        except PayloadError as error:
            raise _DamagedNodes(number, error) from error
        size += result.size
    if group:
        yield group


def _product(document: BatchDocument, nodes: Sequence[Node]) -> Product:
    return Product(document.id, document.sequence, pack_product(nodes))


def _outcome(number: int, result: PackedResult, winners: _Winners) -> BatchOutcome:
    written = winners.of([result])
    failed = sum(1 for document in result.documents if document.failure is not None)
    new = sum(1 for document in written if document.document.is_new)
    return BatchOutcome(
        number=number,
        documents_new=new,
        documents_changed=len(written) - new,
        documents_failed=failed,
        documents_duplicate=len(result.documents) - failed - len(written) - winners.waiting_of(result),
        nodes_upserted=sum(document.node_count for document in written),
    )
