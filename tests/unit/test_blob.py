"""The result blob hands over what a batch came to, and refuses what is not one."""

from typing import Any

import numpy as np
import pytest

from orchestrator.contracts.errors import PayloadError
from orchestrator.contracts.nodes import Node, node_id
from orchestrator.contracts.payload import BatchDocument
from orchestrator.ledger.failures import Failure
from workers.blob import decode_result, encode_result
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
    """What is decoded is what was encoded, each node with its own metadata to the type, and with its identity."""
    found = decode_result(encode_result(_result()), "c")
    assert (found.model, found.dimension, found.node_count) == ("model", 2, len(_METADATA))
    good, bad = found.documents
    assert bad.failure == _FAILURE
    assert not bad.nodes
    assert good.document == _document("good")._replace(content=b"", metadata={})
    assert [repr(node.metadata) for node in good.nodes] == [repr(metadata) for metadata in _METADATA]
    ids = [node_id("c", "good", index, f"text {index}") for index in range(len(_METADATA))]
    assert [node.id for node in good.nodes] == ids
    assert [node.previous_id for node in good.nodes] == [None, *ids[:-1]]
    assert [node.next_id for node in good.nodes] == [*ids[1:], None]
    spans = [(node.text, node.start, node.end, node.token_count) for node in good.nodes]
    assert spans == [(f"text {index}", index, index + 6, 2) for index in range(len(_METADATA))]
    assert [node.embedding.tolist() for node in good.nodes if node.embedding is not None] == [
        [float(index), float(-index)] for index in range(len(_METADATA))
    ]


@pytest.mark.parametrize("cut", [0, 5, 20, -1])
def test_a_damaged_blob_is_refused(cut: int) -> None:
    """A blob that ends too soon is no result, wherever it ends."""
    with pytest.raises(PayloadError):
        decode_result(encode_result(_result())[:cut], "c")


def test_a_blob_of_another_version_is_refused() -> None:
    """A blob that another release wrote is refused with its version, and its batch runs again."""
    blob = bytearray(encode_result(_result()))
    blob[2] = 1
    with pytest.raises(PayloadError, match="version 1"):
        decode_result(bytes(blob), "c")
