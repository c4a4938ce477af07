"""Batches by weight: documents are packed until they weigh enough, so that a batch takes about equally long."""

from collections.abc import Iterator

from orchestrator.contracts.payload import BatchDocument, encode_payload
from orchestrator.ledger.batches import NewBatch

__all__ = ["BatchPacker", "document_weight"]

_OVERHEAD_BYTES = 512  # a document costs something even if it is empty: a thousand make a batch


def document_weight(document: BatchDocument) -> int:
    """What a document weighs, in bytes."""
    return len(document.content) + _OVERHEAD_BYTES


class BatchPacker:
    """Packs documents in the order they come. A document heavier than the limit travels alone."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._documents: list[BatchDocument] = []
        self._weight = 0

    def add(self, document: BatchDocument) -> Iterator[NewBatch]:
        """Take a document; yields the batch that it would have made too heavy, if any."""
        weight = document_weight(document)
        if self._documents and self._weight + weight > self.limit_bytes:
            yield from self.flush()
        self._documents.append(document)
        self._weight += weight

    def flush(self) -> Iterator[NewBatch]:
        """The last batch, however light."""
        if self._documents:
            yield NewBatch(encode_payload(self._documents), len(self._documents), self._weight)
            self._documents, self._weight = [], 0
