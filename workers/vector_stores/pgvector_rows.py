"""Nodes on their way into Postgres: rows in the binary form of COPY, written here byte by byte.

COPY carries lengths and bytes but no types, so a value goes as what Postgres' own function for its type receives. The
form is that of https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format". The driver could write the
rows as well, at ten times the processor time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING, Any

from orchestrator.contracts.nodes import Node

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from psycopg import Connection

__all__ = ["COLUMNS", "copy_rows"]

COLUMNS = (
    "id",
    "document_id",
    "position",
    "text",
    "metadata",
    "text_start",
    "text_end",
    "token_count",
    "previous_id",
    "next_id",
    "embedding",
)

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, and nothing more in the header
_END = b"\xff\xff"
_ROW = len(COLUMNS).to_bytes(2, "big")
_NULL = b"\xff\xff\xff\xff"
_LENGTH = Struct(">i").pack
_INTEGER = Struct(">ii").pack
_INTEGER_BYTES = 4
_UUID = (16).to_bytes(4, "big")
_JSONB_VERSION = b"\x01"  # jsonb_recv in Postgres' jsonb.c: a version, then the text
_BLOCK_ROWS = 256  # written at once: a megabyte of rows, about


def copy_rows(connection: Connection[Any], table: str, nodes: Sequence[Node], matrix: NDArray[np.float32]) -> None:
    """Stream nodes and their vectors (a row each) into a table, given as a quoted identifier.

    Raises:
        psycopg.DataError: Postgres does not take a value.
        UnicodeEncodeError, struct.error: a text is not Unicode, a number too large for the column.
    """
    # The identifier is quoted by its maker, and the columns are constants.
    statement = f"COPY {table} ({', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)".encode()
    rows = _rows(nodes, matrix)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(_SIGNATURE)
        while block := b"".join(islice(rows, _BLOCK_ROWS)):
            copy.write(block)
        copy.write(_END)


def _rows(nodes: Sequence[Node], matrix: NDArray[np.float32]) -> Iterator[bytes]:
    # Nodes of one document mostly share one object of metadata, and the nodes keep it alive: its id stays its own.
    metadata_fields: dict[int, bytes] = {}
    for node, vector in zip(nodes, _vectors(matrix), strict=True):
        metadata = metadata_fields.get(id(node.metadata))
        if metadata is None:
            metadata = _field(_JSONB_VERSION + json.dumps(node.metadata).encode())
            metadata_fields[id(node.metadata)] = metadata
        yield b"".join(
            (
                _ROW,
                _uuid(node.id),
                _field(node.document_id.encode()),
                _integer(node.position),
                _field(node.text.encode()),
                metadata,
                _integer(node.start),
                _integer(node.end),
                _integer(node.token_count),
                _uuid(node.previous_id),
                _uuid(node.next_id),
                vector,
            )
        )


def _field(data: bytes) -> bytes:
    return _LENGTH(len(data)) + data


def _integer(value: int | None) -> bytes:
    return _NULL if value is None else _INTEGER(_INTEGER_BYTES, value)


def _uuid(value: str | None) -> bytes:
    return _UUID + bytes.fromhex(value) if value else _NULL


def _vectors(matrix: NDArray[np.float32]) -> Iterator[bytes]:
    """vector_recv in pgvector's vector.c: the dimension and a zero as int16, then float32; all big-endian."""
    dimension = matrix.shape[1]
    header = _LENGTH(4 + 4 * dimension) + dimension.to_bytes(2, "big") + b"\0\0"
    size = 4 * dimension
    for first in range(0, len(matrix), _BLOCK_ROWS):
        block = matrix[first : first + _BLOCK_ROWS].astype(">f4").tobytes()
        for start in range(0, len(block), size):
            yield header + block[start : start + size]
