"""Batches by weight: documents are packed until they weigh enough, so that a batch takes about equally long."""

from collections.abc import Iterator

from orchestrator.contracts.payload import BatchDocument, encode_payload
from orchestrator.ledger.batches import NewBatch

__all__ = ["BatchPacker", "document_weight"]

_STEPS = 3  # the first batches weigh an eighth
_BATCHES_A_STEP = 8
_OVERHEAD_BYTES = 512  # a document costs something even if it is empty: two thousand make a batch


def document_weight(document: BatchDocument) -> int:
    """What a document weighs, in bytes."""
    return len(document.content) + _OVERHEAD_BYTES


class BatchPacker:
    """Packs documents in the order they come. A document heavier than the limit travels alone.

    The first batches are light and the limit doubles every so many: a small job is spread over all workers, and a
    large one is soon packed well.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._packed = 0
        self._documents: list[BatchDocument] = []
        self._weight = 0

    @property
    def _limit(self) -> int:
        """What the batch at hand may weigh."""
        doublings = min(self._packed // _BATCHES_A_STEP, _STEPS)
        return self.limit_bytes >> (_STEPS - doublings)

    def add(self, document: BatchDocument) -> Iterator[NewBatch]:
        """Take a document; yields the batch that it would have made too heavy, if any."""
        weight = document_weight(document)
        if self._documents and self._weight + weight > self._limit:
            yield from self.flush()
        self._documents.append(document)
        self._weight += weight

    def flush(self) -> Iterator[NewBatch]:
        """The last batch, however light."""
        if self._documents:
            yield NewBatch(encode_payload(self._documents), len(self._documents), self._weight)
            self._packed += 1
            self._documents, self._weight = [], 0
