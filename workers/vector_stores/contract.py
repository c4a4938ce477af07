"""The port of a vector store: nodes by collection, written under deterministic ids, found by cosine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.contracts.nodes import Node

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Connection

__all__ = ["Collection", "Match", "VectorStore"]


@dataclass(frozen=True, slots=True)
class Collection:
    """A set of nodes that are searched together. All its vectors are of one model and dimension."""

    name: str
    model: str
    dimension: int

    def __str__(self) -> str:
        return f"vectors of {self.model!r} with {self.dimension} dimensions"


@dataclass(frozen=True, slots=True)
class Match:
    """A node found by a search. `score` is the cosine similarity, 1.0 at most."""

    id: str
    document_id: str
    position: int
    text: str
    metadata: dict[str, Any]
    score: float


class VectorStore(Protocol):
    """Where nodes are kept and found.

    Every method that writes takes the SQL connection of the commit it belongs to. A store that lives in the ledger's
    own Postgres writes on it, so that vectors and hashes are one transaction; every other store ignores it, and
    writes durably before it returns: the ledger commits after it.

    Attributes:
        in_ledger: it lives there. Then a document of which the ledger holds no row has no nodes, and its first are
            upserted as `new`; in any other store a commit that broke may have left some.
    """

    in_ledger: bool

    def open_collection(self, connection: Connection, collection: Collection) -> None:
        """Make the collection where it is missing; several workers may do so at once.

        Raises:
            CollectionMismatch: it exists with another model or dimension; the message names both.
        """
        ...

    def describe(self, name: str) -> Collection | None:
        """The collection of that name, or None."""
        ...

    def upsert(self, connection: Connection, collection: str, nodes: Sequence[Node], *, new: bool = False) -> None:
        """Write nodes, replacing those of the same id. Each node has its identity and its embedding.

        `new` says that their documents should have none so far; where they have, all is done as without it.

        Raises:
            CollectionMismatch: a vector has another dimension than the collection.
        """
        ...

    def remove_stale(self, connection: Connection, collection: str, keep: Mapping[str, Sequence[str]]) -> int:
        """Remove the nodes of the given documents that are not kept: {document id: node ids}. Returns how many."""
        ...

    def search(self, collection: str, vector: NDArray[np.float32], k: int) -> list[Match]:
        """The k nodes nearest by cosine, best first; ties by node id. [] for a collection that does not exist."""
        ...

    def count(self, collection: str) -> int:
        """Nodes in the collection; 0 for one that does not exist."""
        ...

    def node_ids(self, collection: str) -> Iterator[tuple[str, str]]:
        """All (document id, node id), ordered by both, streamed."""
        ...

    def drop(self, collection: str) -> None:
        """Remove a collection with its nodes; nothing happens where there is none."""
        ...

    def optimize(self, collection: str, min_rows: int) -> bool:
        """Build the search index if the collection has at least `min_rows` nodes and none yet. True if built."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
