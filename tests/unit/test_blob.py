"""The result blob hands over what a batch came to, and refuses what is not one."""

from typing import Any

import numpy as np
import pytest

from orchestrator.contracts.errors import PayloadError
from orchestrator.contracts.nodes import Node, node_id, nodes_hash
from orchestrator.contracts.payload import BatchDocument
from orchestrator.ledger.failures import Failure
from workers.blob import PackedResult, pack_result
from workers.chain import BatchResult, DocumentResult

_FAILURE = Failure("bad", "parse", "DocumentError", "has no text")
# Alike to Python's eye, and yet not the same.
_METADATA: list[dict[str, Any]] = [
    {"page": 1},
    {"page": 1},
    {"page": True},
    {"page": 1.0},
    {},
    {"page": 1},
    {"title": "\ud800"},
]


def _document(name: str) -> BatchDocument:
    return BatchDocument(name, 3, True, False, b"body", {"source": name}, "content", "body", None)


def _result() -> BatchResult:
    nodes = [
        Node(text=f"text {index}", metadata=metadata, start=index, end=index + 6, token_count=2)
        for index, metadata in enumerate(_METADATA)
    ]
    for index, node in enumerate(nodes):
        node.embedding = np.array([index, -index], np.float32)
    made = DocumentResult(_document("good"), nodes)
    return BatchResult([made, DocumentResult(_document("bad"), failure=_FAILURE)], "model", 2)


def test_a_result_survives_the_way_through_redis() -> None:
    """What is unpacked is what was packed, each node with its own metadata to the type, and with its identity."""
    found = PackedResult(pack_result(_result(), "c"))
    assert (found.model, found.dimension) == ("model", 2)
    (good, nodes), (bad, none) = found.unpack()
    assert found.documents == [good, bad]
    assert (bad.failure, bad.node_count, none) == (_FAILURE, 0, [])
    assert good.document == _document("good")._replace(content=b"", metadata={})
    assert [repr(node.metadata) for node in nodes] == [repr(metadata) for metadata in _METADATA]
    ids = [node_id("c", "good", index, f"text {index}") for index in range(len(_METADATA))]
    assert (good.node_count, good.nodes_hash, good.failure) == (len(_METADATA), nodes_hash(ids), None)
    assert [node.id for node in nodes] == ids
    assert [(node.document_id, node.position) for node in nodes] == [("good", index) for index in range(len(ids))]
    assert [node.previous_id for node in nodes] == [None, *ids[:-1]]
    assert [node.next_id for node in nodes] == [*ids[1:], None]
    spans = [(node.text, node.start, node.end, node.token_count) for node in nodes]
    assert spans == [(f"text {index}", index, index + 6, 2) for index in range(len(_METADATA))]
    assert [node.embedding.tolist() for node in nodes if node.embedding is not None] == [
        [float(index), float(-index)] for index in range(len(_METADATA))
    ]


def test_nodes_without_vectors_survive_as_well() -> None:
    """Where nothing was embedded, nodes come without vectors; where nothing was made, none come."""
    ((_, (node,)),) = PackedResult(
        pack_result(BatchResult([DocumentResult(_document("a"), [Node("text")])], "", 0), "c")
    ).unpack()
    assert (node.text, node.embedding) == ("text", None)
    assert list(PackedResult(pack_result(BatchResult([], "model", 2), "c")).unpack()) == []


@pytest.mark.parametrize("cut", [0, 5, 20, 200, -1])
def test_a_damaged_blob_is_refused(cut: int) -> None:
    """A blob that ends too soon is no result, wherever it ends; at the latest when its nodes are read."""
    with pytest.raises(PayloadError):
        list(PackedResult(pack_result(_result(), "c")[:cut]).unpack())


def test_vectors_that_are_too_few_are_refused() -> None:
    """A blob whose vectors are not those of its nodes is refused before any is read."""
    blob = bytearray(pack_result(_result(), "c"))
    del blob[16:20]
    blob[4:8] = (len(_METADATA) * 8 - 4).to_bytes(4, "big")
    with pytest.raises(PayloadError, match="52 bytes of vectors and 112 of ids; its 7 nodes need 56 and 112"):
        PackedResult(bytes(blob))


def test_a_blob_of_another_version_is_refused() -> None:
    """A blob that another release wrote is refused with its version, and its batch runs again."""
    blob = bytearray(pack_result(_result(), "c"))
    blob[2] = 1
    with pytest.raises(PayloadError, match="version 1"):
        PackedResult(bytes(blob))
