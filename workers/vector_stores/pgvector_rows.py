"""Nodes on their way into Postgres: the binary form of a row, streamed by COPY."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.contracts.nodes import Node

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from psycopg import Connection

__all__ = ["COLUMNS", "copy_rows"]

# Each column, and how its value is handed over. COPY carries lengths and bytes but no types, so what psycopg would
# take apart and put together again (uuid, jsonb, vector), or cut off without a word (an integer that is too large),
# goes as the bytes that Postgres reads for that type.
_FORMS = {
    "id": "bytea",
    "document_id": "text",
    "position": "bytea",
    "text": "text",
    "metadata": "bytea",
    "text_start": "bytea",
    "text_end": "bytea",
    "token_count": "bytea",
    "previous_id": "bytea",
    "next_id": "bytea",
    "embedding": "bytea",
}
COLUMNS = tuple(_FORMS)

_JSONB_VERSION = b"\x01"  # jsonb_recv in Postgres' jsonb.c: a version, then the text
_BLOCK_ROWS = 1024  # vectors brought into wire form at once


def copy_rows(connection: Connection[Any], table: str, nodes: Sequence[Node], matrix: NDArray[np.float32]) -> None:
    """Stream nodes and their vectors (a row each) into a table, given as a quoted identifier.

    Raises:
        psycopg.DataError, UnicodeEncodeError, OverflowError: a node holds what Postgres cannot.
    """
    columns = ", ".join(COLUMNS)
    # The identifier is quoted by its maker, and the columns are constants.
    statement = f"COPY {table} ({columns}) FROM STDIN (FORMAT binary)".encode()
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(list(_FORMS.values()))
        # Nodes of one document mostly share one object of metadata, and the nodes keep it alive: its id stays its own.
        written: dict[int, bytes] = {}
        for node, vector in zip(nodes, _wire_vectors(matrix), strict=True):
            metadata = written.get(id(node.metadata))
            if metadata is None:
                metadata = written[id(node.metadata)] = _JSONB_VERSION + json.dumps(node.metadata).encode()
            copy.write_row(
                (
                    bytes.fromhex(node.id),
                    node.document_id,
                    _integer(node.position),
                    node.text,
                    metadata,
                    _integer(node.start),
                    _integer(node.end),
                    _integer(node.token_count),
                    bytes.fromhex(node.previous_id) if node.previous_id else None,
                    bytes.fromhex(node.next_id) if node.next_id else None,
                    vector,
                )
            )


def _integer(value: int | None) -> bytes | None:
    return None if value is None else value.to_bytes(4, "big", signed=True)


def _wire_vectors(matrix: NDArray[np.float32]) -> Iterator[bytes]:
    """vector_recv in pgvector's vector.c: the dimension and a zero as int16, then float32; all big-endian."""
    dimension = matrix.shape[1]
    header = dimension.to_bytes(2, "big") + b"\0\0"
    size = 4 * dimension
    for first in range(0, len(matrix), _BLOCK_ROWS):
        block = matrix[first : first + _BLOCK_ROWS].astype(">f4").tobytes()
        for start in range(0, len(block), size):
            yield header + block[start : start + size]
