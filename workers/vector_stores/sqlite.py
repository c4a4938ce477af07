"""A vector store in one SQLite file, for one machine: exact search, and as many processes as like to write."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.contracts.errors import CollectionMismatch, ConfigurationError, ServiceUnreachable
from orchestrator.contracts.nodes import Node
from orchestrator.ledger.sqlite_wal import switch_to_wal
from workers.vector_stores.contract import Collection, Match
from workers.vector_stores.vectors import NearestIds, check_opened, check_vector, last_of_each_id, stack_embeddings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Connection

__all__ = ["SqliteVectorStore"]

_BUSY_SECONDS = 60.0  # for another writer to finish; longer than any commit
_PAGE_BYTES = 16384  # a page of SQLite's default holds less than two nodes, and wastes the rest
_BLOCK_ROWS = 4096  # vectors read and scored at once: 4 MB of 256 dimensions

_SCHEMA = """
CREATE TABLE IF NOT EXISTS collections (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    dimension INTEGER NOT NULL
);
-- The vector stands before the text, so that a search reads no text.
CREATE TABLE IF NOT EXISTS nodes (
    collection INTEGER NOT NULL,
    id TEXT NOT NULL,
    document_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    embedding BLOB NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,
    text_start INTEGER,
    text_end INTEGER,
    token_count INTEGER NOT NULL,
    previous_id TEXT,
    next_id TEXT,
    PRIMARY KEY (collection, id)
);
CREATE INDEX IF NOT EXISTS nodes_document ON nodes (collection, document_id, id);
"""

_COLUMNS = (
    "collection, id, document_id, position, embedding, text, metadata, "
    "text_start, text_end, token_count, previous_id, next_id"
)
_UPSERT = f"INSERT OR REPLACE INTO nodes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants


class SqliteVectorStore:
    """Nodes in a file of its own, in WAL mode: readers never wait, writers wait for each other.

    Every call opens the file and closes it again, so the store may be used by any thread and after any fork. It
    ignores the connection it is handed, and has written durably when it returns.

    Raises (every method):
        ServiceUnreachable: the file cannot be opened, or another writer held it for a minute.
        ConfigurationError: the file is something else than a SQLite database.
    """

    in_ledger = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def open_collection(self, connection: Connection, collection: Collection) -> None:
        """Make the collection where it is missing.

        Raises:
            CollectionMismatch: it exists with another model or dimension.
        """
        held = self.describe(collection.name)
        if held is None:
            with self._transaction(write=True) as cursor:
                cursor.execute(
                    "INSERT OR IGNORE INTO collections (name, model, dimension) VALUES (?, ?, ?)",
                    (collection.name, collection.model, collection.dimension),
                )
                _, held = _find(cursor, collection.name)  # another process may have been first
        if held != collection:
            raise CollectionMismatch(collection.name, str(held), str(collection))

    def describe(self, name: str) -> Collection | None:
        """The collection of that name, or None."""
        with self._transaction() as cursor:
            return _find(cursor, name)[1]

    def upsert(self, connection: Connection, collection: str, nodes: Sequence[Node], *, new: bool = False) -> None:
        """Write nodes, replacing those of the same id; of several with one id the last.

        Raises:
            CollectionMismatch: a vector has another dimension than the collection.
            ConfigurationError: the collection does not exist, or a node has no finite vector.
        """
        nodes = last_of_each_id(nodes)
        with self._transaction(write=True) as cursor:
            number, held = _find(cursor, collection)
            matrix = stack_embeddings(check_opened(collection, held), nodes).astype("<f4")
            cursor.executemany(
                _UPSERT, (_row(number, node, vector.tobytes()) for node, vector in zip(nodes, matrix, strict=True))
            )

    def remove_stale(self, connection: Connection, collection: str, keep: Mapping[str, Sequence[str]]) -> int:
        """Remove the nodes of the given documents that are not kept. Returns how many."""
        with self._transaction(write=True) as cursor:
            number, _ = _find(cursor, collection)
            stale: list[str] = []
            for document_id, kept in keep.items():
                rows = cursor.execute(
                    "SELECT id FROM nodes WHERE collection = ? AND document_id = ?", (number, document_id)
                )
                stale += {node_id for (node_id,) in rows}.difference(kept)
            cursor.executemany(
                "DELETE FROM nodes WHERE collection = ? AND id = ?", ((number, node_id) for node_id in stale)
            )
        return len(stale)

    def search(self, collection: str, vector: NDArray[np.float32], k: int) -> list[Match]:
        """The k nodes nearest by cosine, best first; ties by node id. Reads every vector, a block at a time.

        Raises:
            CollectionMismatch: the vector has another dimension than the collection.
        """
        import numpy as np

        with self._transaction() as cursor:
            number, held = _find(cursor, collection)
            if held is None or k < 1:
                return []
            check_vector(held, vector)
            nearest = NearestIds(vector, k)
            cursor.execute("SELECT id, embedding FROM nodes WHERE collection = ?", (number,))
            while rows := cursor.fetchmany(_BLOCK_ROWS):
                blobs = b"".join(blob for _, blob in rows)
                nearest.add([node_id for node_id, _ in rows], np.frombuffer(blobs, "<f4").reshape(len(rows), -1))
            return [_match(cursor, number, node_id, score) for node_id, score in nearest]

    def count(self, collection: str) -> int:
        """Nodes in the collection; 0 for one that does not exist."""
        with self._transaction() as cursor:
            number, _ = _find(cursor, collection)
            (count,) = cursor.execute("SELECT count(*) FROM nodes WHERE collection = ?", (number,)).fetchone()
        return int(count)

    def node_ids(self, collection: str) -> Iterator[tuple[str, str]]:
        """All (document id, node id) as they are when the first is asked for, ordered by both, streamed."""
        with self._transaction() as cursor:
            number, _ = _find(cursor, collection)
            yield from cursor.execute(
                "SELECT document_id, id FROM nodes WHERE collection = ? ORDER BY document_id, id", (number,)
            )

    def drop(self, collection: str) -> None:
        """Remove a collection with its nodes; nothing happens where there is none."""
        with self._transaction(write=True) as cursor:
            number, _ = _find(cursor, collection)
            cursor.execute("DELETE FROM nodes WHERE collection = ?", (number,))
            cursor.execute("DELETE FROM collections WHERE number = ?", (number,))

    def optimize(self, collection: str, min_rows: int) -> bool:
        """Nothing to build: every search is exact."""
        return False

    def close(self) -> None:
        """Nothing to let go of: no call leaves a connection open."""

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[sqlite3.Cursor]:
        try:
            with closing(self._connect()) as connection:
                # A writer says so at once: a reader that wants to write later cannot wait for its turn.
                cursor = connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield cursor
                connection.commit()
        except sqlite3.OperationalError as error:
            raise ServiceUnreachable("vector store", str(self._path), str(error)) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._ready_path, timeout=_BUSY_SECONDS, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")  # what is written outlives a loss of power: the ledger relies
        return connection

    @cached_property
    def _ready_path(self) -> Path:
        """The file, once it exists, is in WAL mode and has its tables."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
                connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                switch_to_wal(connection, _BUSY_SECONDS)
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            return self._path
        except sqlite3.OperationalError:
            raise  # a DatabaseError too: whoever asked says that the file is locked or cannot be opened
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(f"{self._path} cannot be used as a vector store: {error}") from error


def _find(cursor: sqlite3.Cursor, name: str) -> tuple[int, Collection | None]:
    """The number and the description of a collection; (0, None) where there is none, and no node has number 0."""
    row = cursor.execute("SELECT number, model, dimension FROM collections WHERE name = ?", (name,)).fetchone()
    if row is None:
        return 0, None
    number, model, dimension = row
    return number, Collection(name, model, dimension)


def _row(number: int, node: Node, embedding: bytes) -> tuple[object, ...]:
    return (
        number,
        node.id,
        node.document_id,
        node.position,
        embedding,
        node.text,
        json.dumps(node.metadata),
        node.start,
        node.end,
        node.token_count,
        node.previous_id,
        node.next_id,
    )


def _match(cursor: sqlite3.Cursor, number: int, node_id: str, score: float) -> Match:
    document_id, position, text, metadata = cursor.execute(
        "SELECT document_id, position, text, metadata FROM nodes WHERE collection = ? AND id = ?", (number, node_id)
    ).fetchone()
    return Match(node_id, document_id, position, text, json.loads(metadata), score)
