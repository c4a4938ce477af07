"""The result blob: what a transform hands to a commit, by way of Redis.

    "DM" | version (1 byte) | length of the head (4 bytes, big-endian) | head | vectors

The head is compressed msgpack; the vectors are one raw little-endian float32 matrix, which would not compress.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from orchestrator.contracts.errors import PayloadError
from orchestrator.contracts.nodes import Node, node_id
from orchestrator.contracts.payload import BatchDocument, pack, serialize, unpack
from orchestrator.ledger.failures import Failure
from workers.chain import BatchResult, DocumentResult

__all__ = ["decode_result", "encode_result"]

_HEADER = struct.Struct(">2sBI")
_MAGIC = b"DM"
_VERSION = 2


def encode_result(result: BatchResult) -> bytes:
    """A batch's result as bytes. Bodies of documents are left out: the ledger never sees them again."""
    head = pack(
        {
            "model": result.model,
            "dimension": result.dimension,
            "documents": [_pack_document(document) for document in result.documents],
        }
    )
    nodes = [node for document in result.documents for node in document.nodes]
    vectors = memoryview(b"")
    if nodes and result.dimension:
        vectors = np.asarray([node.embedding for node in nodes if node.embedding is not None], "<f4").data.cast("B")
    return b"".join((_HEADER.pack(_MAGIC, _VERSION, len(head)), head, vectors))


def decode_result(data: bytes, collection: str) -> BatchResult:
    """The inverse of `encode_result`, with every node's identity bound.

    Raises:
        PayloadError: the blob is damaged, or of another version.
    """
    try:
        magic, version, length = _HEADER.unpack_from(data)
    except struct.error as error:
        raise PayloadError(f"result blob of {len(data)} bytes is damaged: {error}") from error
    if (magic, version) != (_MAGIC, _VERSION):
        raise PayloadError(f"result blob begins with {magic!r} version {version}; expected {_MAGIC!r} {_VERSION}")
    start = _HEADER.size + length
    head = unpack(data[_HEADER.size : start])
    result = BatchResult(
        [_unpack_document(fields, collection) for fields in head["documents"]], head["model"], head["dimension"]
    )
    _attach_vectors(result, data[start:])  # a copy: a view would keep the head, for as long as there are nodes
    return result


def _attach_vectors(result: BatchResult, data: bytes) -> None:
    nodes = [node for document in result.documents for node in document.nodes]
    expected = 4 * result.dimension * len(nodes)
    if len(data) != expected:
        raise PayloadError(f"result blob holds {len(data)} bytes of vectors; its {len(nodes)} nodes need {expected}")
    if not expected:
        return  # no nodes, or nothing was embedded
    matrix = np.frombuffer(data, "<f4").reshape(len(nodes), result.dimension)
    for node, row in zip(nodes, matrix, strict=True):
        node.embedding = row


def _pack_document(result: DocumentResult) -> tuple[Any, ...]:
    failure = result.failure
    return (
        tuple(result.document._replace(content=b"", metadata={})),
        list(_pack_nodes(result.nodes)),
        None if failure is None else {name: getattr(failure, name) for name in Failure.__dataclass_fields__},
    )


def _pack_nodes(nodes: Sequence[Node]) -> Iterator[tuple[Any, ...]]:
    """Their fields; no metadata where they are those of the node before, as most are."""
    before = None
    for node in nodes:
        found = serialize(node.metadata)  # to Python 1, 1.0 and True would be equal
        yield node.text, None if found == before else node.metadata, node.start, node.end, node.token_count
        before = found


def _unpack_document(fields: tuple[Any, ...], collection: str) -> DocumentResult:
    document, nodes, failure = fields
    result = DocumentResult(BatchDocument(*document), failure=None if failure is None else Failure(**failure))
    result.nodes = list(_unpack_nodes(nodes))
    _bind_identity(collection, result.document.id, result.nodes)
    return result


def _unpack_nodes(packed: Sequence[tuple[Any, ...]]) -> Iterator[Node]:
    """The inverse of `_pack_nodes`. Nodes with equal metadata share one object, which nobody changes any more."""
    shared: dict[str, Any] = {}
    for text, metadata, start, end, token_count in packed:
        if metadata is not None:
            shared = metadata
        yield Node(text=text, metadata=shared, start=start, end=end, token_count=token_count)


def _bind_identity(collection: str, document_id: str, nodes: list[Node]) -> None:
    ids = [node_id(collection, document_id, position, node.text) for position, node in enumerate(nodes)]
    for position, (id, node) in enumerate(zip(ids, nodes, strict=True)):
        node.id, node.document_id, node.position = id, document_id, position
        node.previous_id = ids[position - 1] if position else None
        node.next_id = ids[position + 1] if position + 1 < len(ids) else None
