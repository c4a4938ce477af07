"""The bare loop: what the work itself costs one process without any framework.

Reads, hashes, splits, counts and copies into pgvector. Nothing is safe here: no ledger, no retry, no second process.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import toktok
from semantic_text_splitter import TextSplitter

from tests.benchmarks.programs.protocol import CHUNK_OVERLAP, CHUNK_SIZE, DIMENSION, ENCODING, files, serve
from workers.transformations import SentenceSplitter

_TABLES = f"""
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE documents (id text PRIMARY KEY, hash bytea NOT NULL);
CREATE TABLE nodes (
    id bytea PRIMARY KEY, document_id text NOT NULL, position int NOT NULL, text text NOT NULL, text_start int NOT NULL,
    token_count int NOT NULL, embedding vector({DIMENSION}) NOT NULL
);
CREATE INDEX ON nodes (document_id);
"""
_COPY_NODES = """
COPY nodes (id, document_id, position, text, text_start, token_count, embedding) FROM STDIN (FORMAT binary)
"""
_TYPES = ["bytea", "text", "int4", "text", "int4", "int4", "bytea"]
_COPY_DOCUMENTS = "COPY documents (id, hash) FROM STDIN"

Row = tuple[bytes, str, int, str, int, int, bytes]


def main(folder: Path, address: str, splitter: str) -> None:
    connection = psycopg.connect(address)
    connection.execute(_TABLES)
    connection.commit()
    chunks_of = _splitter(splitter)
    vector = np.full(DIMENSION, DIMENSION**-0.5, dtype=">f4")
    # As pgvector reads a vector: its length, a zero, its floats.
    wire_vector = DIMENSION.to_bytes(2, "big") + b"\0\0" + vector.tobytes()

    def rows(changed: dict[str, tuple[bytes, bytes]]) -> Iterator[Row]:
        for name, (content, _) in changed.items():
            for position, (start, chunk, tokens) in enumerate(chunks_of(content.decode())):
                id = hashlib.blake2b(f"{name}\0{position}\0{chunk}".encode(), digest_size=16).digest()
                yield id, name, position, chunk, start, tokens, wire_vector

    def ingest() -> dict[str, Any]:
        known: dict[str, bytes] = dict(connection.execute("SELECT id, hash FROM documents").fetchall())
        changed = {}
        unchanged = 0
        for name, path in files(folder):
            content = path.read_bytes()
            found = hashlib.blake2b(content, digest_size=20).digest()
            if known.get(name) == found:
                unchanged += 1
            else:
                changed[name] = content, found
        stale = [name for name in changed if name in known]
        connection.execute("DELETE FROM nodes WHERE document_id = ANY(%s)", [stale])
        connection.execute("DELETE FROM documents WHERE id = ANY(%s)", [stale])
        with connection.cursor() as cursor:
            with cursor.copy(_COPY_NODES) as copy:
                copy.set_types(_TYPES)
                for row in rows(changed):
                    copy.write_row(row)
            with cursor.copy(_COPY_DOCUMENTS) as copy:
                for name, (_, found) in changed.items():
                    copy.write_row((name, found))
        connection.commit()
        return {"changed": len(changed), "unchanged": unchanged}

    serve(ingest)


def _splitter(name: str) -> Callable[[str], Iterable[tuple[int, str, int]]]:
    """What makes (first character, text, tokens) of a text: "library" or "docmill"."""
    if name == "docmill":
        return SentenceSplitter(chunk_size=CHUNK_SIZE, chunk_overlap=CHUNK_OVERLAP).chunks
    count = toktok._encoding(ENCODING).count
    library = TextSplitter.from_callback(count, CHUNK_SIZE, overlap=CHUNK_OVERLAP)
    return lambda text: ((start, chunk, count(chunk)) for start, chunk in library.chunk_indices(text))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
