"""Nodes on their way into Postgres: rows in the binary form of COPY, each column as Postgres receives its type.

The form of the stream is that of https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from orchestrator.contracts.nodes import Node
from workers.vector_stores.contract import Collection
from workers.vector_stores.vectors import stack_embeddings

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["COLUMNS", "copy_rows"]

COLUMNS = (
    *("id", "document_id", "position", "text", "metadata", "text_start", "text_end", "token_count"),
    *("previous_id", "next_id", "embedding"),
)
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no extension
_TRAILER = b"\xff\xff"
_JSONB_VERSION = b"\x01"  # jsonb_recv in Postgres' jsonb.c: a version, then the text

# A value stands behind its length in bytes, a NULL is a length of -1, and a row begins with the number of its columns.
_NULL = b"\xff\xff\xff\xff"
_UUID = (16).to_bytes(4, "big")
_ROW = len(COLUMNS).to_bytes(2, "big")
_LENGTH = struct.Struct(">i").pack
_INTEGER = struct.Struct(">ii").pack  # with 4 for its length
_ROWS_A_WRITE = 32  # a buffer of about 100 kB
_UNSENT_BYTES = 128 * 1024  # that wait in libpq; what its buffer grows to, it keeps
_ROWS_A_BLOCK = 256  # vectors checked and brought into wire form at once


def copy_rows(connection: Connection[Any], table: str, collection: Collection, nodes: Sequence[Node]) -> None:
    """Stream nodes with their vectors into a table, given as a quoted identifier.

    Raises:
        psycopg.DataError, UnicodeEncodeError, struct.error: a node holds what Postgres cannot.
        CollectionMismatch, ConfigurationError: a node has no vector of the collection; some rows may be written.
    """
    from psycopg.copy import LibpqWriter

    # The identifier is quoted by its maker, and the columns are constants.
    statement = f"COPY {table} ({', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)".encode()
    rows = _rows(collection, nodes)
    with connection.cursor() as cursor:
        writer = LibpqWriter(cursor, flush_threshold=_UNSENT_BYTES)
        with cursor.copy(statement, writer=writer) as copy:
            copy.write(_HEADER)
            while block := b"".join(islice(rows, _ROWS_A_WRITE)):
                copy.write(block)
            copy.write(_TRAILER)


def _rows(collection: Collection, nodes: Sequence[Node]) -> Iterator[bytes]:
    """In the order of COLUMNS."""
    # Nodes of one document mostly share one object of metadata, and the nodes keep it alive: its id stays its own.
    written: dict[int, bytes] = {}
    for node, vector in zip(nodes, _vectors(collection, nodes), strict=True):
        metadata = written.get(id(node.metadata))
        if metadata is None:
            metadata = _value(_JSONB_VERSION + json.dumps(node.metadata).encode())
            written[id(node.metadata)] = metadata
        yield b"".join(
            (
                _ROW,
                _uuid(node.id),
                _value(node.document_id.encode()),
                _integer(node.position),
                _value(node.text.encode()),
                metadata,
                _integer(node.start),
                _integer(node.end),
                _integer(node.token_count),
                _uuid(node.previous_id),
                _uuid(node.next_id),
                vector,
            )
        )


def _value(data: bytes) -> bytes:
    return _LENGTH(len(data)) + data


def _uuid(id: str | None) -> bytes:
    return _UUID + bytes.fromhex(id) if id else _NULL


def _integer(value: int | None) -> bytes:
    return _NULL if value is None else _INTEGER(4, value)


def _vectors(collection: Collection, nodes: Sequence[Node]) -> Iterator[bytes]:
    """vector_recv in pgvector's vector.c: the dimension and a zero as int16, then float32; all big-endian."""
    size = 4 * collection.dimension
    header = _LENGTH(4 + size) + collection.dimension.to_bytes(2, "big") + b"\0\0"
    for first in range(0, len(nodes), _ROWS_A_BLOCK):
        block = stack_embeddings(collection, nodes[first : first + _ROWS_A_BLOCK]).astype(">f4").tobytes()
        for start in range(0, len(block), size):
            yield header + block[start : start + size]
