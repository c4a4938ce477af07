"""Nodes as bytes: those that a caller hands in already split, and those that are a job's product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgpack

from orchestrator.contracts.errors import ConfigurationError, PayloadError
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.payload import deserialize, pack, serialize, unpack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["pack_handed", "pack_product", "unpack_handed", "unpack_product"]


def pack_handed(nodes: Sequence[Node]) -> bytes:
    """What the nodes of one document say, as bytes that equal nodes share: texts, metadata and spans, no identity.

    Raises:
        TypeError, ValueError, OverflowError: metadata that msgpack cannot hold.
    """
    return serialize([(node.text, node.metadata, node.start, node.end) for node in nodes])


def unpack_handed(data: bytes) -> list[Node]:
    """The inverse of `pack_handed`.

    Raises:
        PayloadError: the bytes are damaged.
    """
    try:
        found = deserialize(data)
        return [Node(text=text, metadata=metadata, start=start, end=end) for text, metadata, start, end in found]
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise PayloadError(f"nodes of {len(data)} bytes are damaged: {error}") from error


def pack_product(nodes: Sequence[Node]) -> bytes:
    """The nodes of one document with all they carry, their vectors as raw little-endian float32."""
    embedded = [node.embedding for node in nodes if node.embedding is not None]
    vectors = b"".join(vector.astype("<f4").tobytes() for vector in embedded)
    records = [(node.id, node.text, node.metadata, node.start, node.end, node.token_count) for node in nodes]
    return pack((nodes[0].document_id if nodes else "", records, vectors))


def unpack_product(data: bytes) -> Iterator[Node]:
    """The inverse of `pack_product`, in order, each node with its neighbours' ids.

    Raises:
        PayloadError: the bytes are damaged.
        ConfigurationError: they hold vectors, and numpy is not installed.
    """
    try:
        document_id, records, vectors = unpack(data)
        ids = [None, *(record[0] for record in records), None]
        rows = _rows(vectors, len(records))
        for position, (id, text, metadata, start, end, token_count) in enumerate(records):
            yield Node(
                text=text,
                metadata=metadata,
                start=start,
                end=end,
                token_count=token_count,
                embedding=rows[position],
                id=id,
                document_id=document_id,
                position=position,
                previous_id=ids[position],
                next_id=ids[position + 2],
            )
    except (TypeError, ValueError) as error:
        raise PayloadError(f"nodes of {len(data)} bytes are damaged: {error}") from error


def _rows(vectors: bytes, count: int) -> Any:
    if not vectors:
        return [None] * count
    try:
        import numpy as np
    except ImportError as error:
        raise ConfigurationError("these nodes carry vectors, which take numpy: pip install numpy") from error
    matrix: NDArray[np.float32] = np.frombuffer(vectors, "<f4").reshape(count, -1)
    return matrix
