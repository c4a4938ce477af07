"""The result blob: what a transform hands to a commit, by way of Redis.

    "DM" | version (1 byte) | 0 | lengths of vectors, ids and summary (4 bytes each, big-endian)
         | vectors | ids | summary | nodes

The vectors are one raw little-endian float32 matrix and the ids 16 bytes each; neither would compress. The summary,
which says what became of each document, and the nodes are compressed msgpack. A commit reads the summaries of all
its batches first, and then the nodes of one batch after the other: it never holds those of all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.contracts.errors import PayloadError
from orchestrator.contracts.nodes import Node, node_id, nodes_hash
from orchestrator.contracts.payload import BatchDocument, pack, serialize, unpack
from orchestrator.ledger.failures import Failure
from workers.chain import BatchResult, DocumentResult

__all__ = ["PackedDocument", "PackedResult", "pack_result"]

_HEADER = struct.Struct(">2sBxIII")
_MAGIC = b"DM"
_VERSION = 3
_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class PackedDocument:
    """What became of one document: its nodes, by number and hash, or the failure that refused it."""

    document: BatchDocument
    node_count: int
    nodes_hash: str
    failure: Failure | None


class PackedResult:
    """A batch's result as it comes out of Redis. Bodies of documents are left out: the ledger never sees them again.

    Attributes:
        size: its bytes.
        model, dimension: whose vectors the nodes carry.
        documents: what became of each.

    Raises:
        PayloadError: the blob is damaged, or of another version.
    """

    def __init__(self, blob: bytes) -> None:
        try:
            magic, version, *lengths = _HEADER.unpack_from(blob)
        except struct.error as error:
            raise PayloadError(f"result blob of {len(blob)} bytes is damaged: {error}") from error
        if (magic, version) != (_MAGIC, _VERSION):
            raise PayloadError(f"result blob begins with {magic!r} version {version}; expected {_MAGIC!r} {_VERSION}")
        self.size = len(blob)
        self._vectors, self._ids, summary, self._nodes = _parts(blob, lengths)
        found = unpack(summary)
        self.model: str = found["model"]
        self.dimension: int = found["dimension"]
        self.documents = [_unpack_document(*fields) for fields in found["documents"]]
        count = sum(document.node_count for document in self.documents)
        expected = (4 * self.dimension * count, _ID_BYTES * count)
        if (len(self._vectors), len(self._ids)) != expected:
            raise PayloadError(
                f"result blob holds {len(self._vectors)} bytes of vectors and {len(self._ids)} of ids; its {count} "
                f"nodes need {expected[0]} and {expected[1]}"
            )

    def unpack(self) -> Iterator[tuple[PackedDocument, list[Node]]]:
        """Each document with its nodes, which carry their vectors and their identity.

        Raises:
            PayloadError: the blob is damaged.
        """
        ids = self._ids.hex()
        matrix = np.frombuffer(self._vectors, "<f4").reshape(-1, self.dimension) if self.dimension else None
        first = 0
        for packed, records in zip(self.documents, unpack(self._nodes), strict=True):
            last = first + packed.node_count
            nodes = list(_unpack_nodes(records))
            _bind_identity(packed.document.id, nodes, [ids[at : at + 32] for at in range(32 * first, 32 * last, 32)])
            if matrix is not None:
                for node, row in zip(nodes, matrix[first:last], strict=True):
                    node.embedding = row
            first = last
            yield packed, nodes


def pack_result(result: BatchResult, collection: str) -> bytes:
    """A batch's result as bytes, its nodes with the ids that they have in the collection."""
    ids = [
        [node_id(collection, made.document.id, position, node.text) for position, node in enumerate(made.nodes)]
        for made in result.documents
    ]
    summary = pack(
        {
            "model": result.model,
            "dimension": result.dimension,
            "documents": [_pack_document(*document) for document in zip(result.documents, ids, strict=True)],
        }
    )
    nodes = pack([list(_pack_nodes(made.nodes)) for made in result.documents])
    vectors = memoryview(b"")
    embeddings = [node.embedding for made in result.documents for node in made.nodes if node.embedding is not None]
    if embeddings:
        vectors = np.asarray(embeddings, "<f4").data.cast("B")
    packed_ids = bytes.fromhex("".join(id for own in ids for id in own))
    header = _HEADER.pack(_MAGIC, _VERSION, len(vectors), len(packed_ids), len(summary))
    return b"".join((header, vectors, packed_ids, summary, nodes))


def _pack_document(made: DocumentResult, ids: Sequence[str]) -> tuple[Any, ...]:
    failure = made.failure
    return (
        tuple(made.document._replace(content=b"", metadata={})),
        len(ids),
        nodes_hash(ids),
        None if failure is None else {name: getattr(failure, name) for name in Failure.__dataclass_fields__},
    )


def _unpack_document(
    document: Sequence[Any], node_count: int, nodes_hash: str, failure: dict[str, Any] | None
) -> PackedDocument:
    return PackedDocument(
        BatchDocument(*document), node_count, nodes_hash, None if failure is None else Failure(**failure)
    )


def _pack_nodes(nodes: Sequence[Node]) -> Iterator[tuple[Any, ...]]:
    """Their fields; no metadata where they are those of the node before, as most are."""
    before = None
    for node in nodes:
        found = serialize(node.metadata)  # to Python 1, 1.0 and True would be equal
        yield node.text, None if found == before else node.metadata, node.start, node.end, node.token_count
        before = found


def _unpack_nodes(records: Sequence[tuple[Any, ...]]) -> Iterator[Node]:
    """The inverse of `_pack_nodes`. Nodes with equal metadata share one object, which nobody changes any more."""
    shared: dict[str, Any] = {}
    for text, metadata, start, end, token_count in records:
        if metadata is not None:
            shared = metadata
        yield Node(text=text, metadata=shared, start=start, end=end, token_count=token_count)


def _bind_identity(document_id: str, nodes: Sequence[Node], ids: Sequence[str]) -> None:
    for position, (id, node) in enumerate(zip(ids, nodes, strict=True)):
        node.id, node.document_id, node.position = id, document_id, position
        node.previous_id = ids[position - 1] if position else None
        node.next_id = ids[position + 1] if position + 1 < len(ids) else None


def _parts(blob: bytes, lengths: Sequence[int]) -> Iterator[memoryview]:
    """The blob behind its header, cut at these lengths. Views, so that vectors are not copied."""
    rest = memoryview(blob)[_HEADER.size :]
    for length in lengths:
        yield rest[:length]
        rest = rest[length:]
    yield rest
