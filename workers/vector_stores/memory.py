"""A vector store in this process's memory: for trying things out and for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from orchestrator.contracts.errors import CollectionMismatch
from orchestrator.contracts.nodes import Node
from workers.vector_stores.contract import Collection, Match
from workers.vector_stores.vectors import NearestIds, check_opened, check_vector, last_of_each_id, stack_embeddings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Connection

__all__ = ["MemoryVectorStore"]

_BLOCK_ROWS = 4096  # vectors scored at once


@dataclass(slots=True)
class _Row:
    document_id: str
    position: int
    text: str
    metadata: str
    embedding: NDArray[np.float32]


@dataclass(slots=True)
class _Held:
    collection: Collection
    rows: dict[str, _Row] = field(default_factory=dict)


class MemoryVectorStore:
    """Nodes by collection, in one process: safe among its threads, seen by no other process, gone when it ends.

    Two instances share nothing, and a rolled back transaction takes nothing back: it ignores the connection.
    """

    in_ledger = False

    def __init__(self) -> None:
        self._collections: dict[str, _Held] = {}
        self._lock = Lock()

    def open_collection(self, connection: Connection, collection: Collection) -> None:
        """Make the collection where it is missing.

        Raises:
            CollectionMismatch: it exists with another model or dimension.
        """
        with self._lock:
            held = self._collections.setdefault(collection.name, _Held(collection)).collection
        if held != collection:
            raise CollectionMismatch(collection.name, str(held), str(collection))

    def describe(self, name: str) -> Collection | None:
        """The collection of that name, or None."""
        with self._lock:
            held = self._collections.get(name)
        return held.collection if held else None

    def upsert(self, connection: Connection, collection: str, nodes: Sequence[Node], *, new: bool = False) -> None:
        """Write nodes, replacing those of the same id; of several with one id the last.

        Raises:
            CollectionMismatch: a vector has another dimension than the collection.
            ConfigurationError: the collection does not exist, or a node has no finite vector.
        """
        nodes = last_of_each_id(nodes)
        matrix = stack_embeddings(check_opened(collection, self.describe(collection)), nodes)
        # Metadata are kept as JSON, as the other stores do: what the caller changes later stays the caller's.
        rows = {
            node.id: _Row(node.document_id, node.position, node.text, json.dumps(node.metadata), embedding.copy())
            for node, embedding in zip(nodes, matrix, strict=True)
        }
        with self._lock:
            held = self._collections.get(collection)
            check_opened(collection, held.collection if held else None)  # another thread may have dropped it by now
            if held:
                held.rows.update(rows)

    def remove_stale(self, connection: Connection, collection: str, keep: Mapping[str, Sequence[str]]) -> int:
        """Remove the nodes of the given documents that are not kept. Returns how many."""
        kept = {document_id: set(node_ids) for document_id, node_ids in keep.items()}
        with self._lock:
            held = self._collections.get(collection)
            if held is None:
                return 0
            stale = [
                node_id
                for node_id, row in held.rows.items()
                if row.document_id in kept and node_id not in kept[row.document_id]
            ]
            for node_id in stale:
                del held.rows[node_id]
        return len(stale)

    def search(self, collection: str, vector: NDArray[np.float32], k: int) -> list[Match]:
        """The k nodes nearest by cosine, best first; ties by node id.

        Raises:
            CollectionMismatch: the vector has another dimension than the collection.
        """
        import numpy as np

        with self._lock:
            held = self._collections.get(collection)
            rows = dict(held.rows) if held else {}
        if held is None or k < 1:
            return []
        check_vector(held.collection, vector)
        nearest = NearestIds(vector, k)
        ids = list(rows)
        for start in range(0, len(ids), _BLOCK_ROWS):
            block = ids[start : start + _BLOCK_ROWS]
            nearest.add(block, np.stack([rows[node_id].embedding for node_id in block]))
        return [_match(node_id, rows[node_id], score) for node_id, score in nearest]

    def count(self, collection: str) -> int:
        """Nodes in the collection; 0 for one that does not exist."""
        with self._lock:
            held = self._collections.get(collection)
            return len(held.rows) if held else 0

    def node_ids(self, collection: str) -> Iterator[tuple[str, str]]:
        """All (document id, node id) as they are now, ordered by both."""
        with self._lock:
            held = self._collections.get(collection)
            pairs = sorted((row.document_id, node_id) for node_id, row in held.rows.items()) if held else []
        return iter(pairs)

    def drop(self, collection: str) -> None:
        """Remove a collection with its nodes; nothing happens where there is none."""
        with self._lock:
            self._collections.pop(collection, None)

    def optimize(self, collection: str, min_rows: int) -> bool:
        """Nothing to build: every search is exact."""
        return False

    def close(self) -> None:
        """Nothing to let go of; the nodes stay until the instance goes."""


def _match(node_id: str, row: _Row, score: float) -> Match:
    return Match(node_id, row.document_id, row.position, row.text, json.loads(row.metadata), score)
