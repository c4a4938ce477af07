"""IngestionCache: what a transformation made of a document, and what an embedder made of a text.

Values carry no identity: ids are bound when they are read, so two documents with equal content share an entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.contracts.errors import PayloadError
from orchestrator.contracts.hashing import digest
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.payload import pack, unpack
from workers.caches.contract import CacheBackend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["IngestionCache"]

# Raised when the form of the values changes: older entries are then never found again.
_FORMAT = "1"


class IngestionCache:
    """Typed look-ups over a cache backend, each one round trip whatever the number of keys."""

    def __init__(self, backend: CacheBackend) -> None:
        self.backend = backend

    @staticmethod
    def step_key(chain_fingerprint: str, content_hash: str) -> str:
        """The key of a document's nodes after the steps of this fingerprint."""
        return "s" + digest(_FORMAT, chain_fingerprint, content_hash)

    @staticmethod
    def embedding_key(model: str, text: str) -> str:
        """The key of a text's vector by a model."""
        return "e" + digest(_FORMAT, model, text)

    def nodes(self, keys: Sequence[str]) -> dict[str, list[Node]]:
        """{key: nodes} of the steps that are known. A damaged entry is as good as none."""
        found = {}
        for key, value in zip(keys, self.backend.get_many(keys), strict=True):
            if value is None:
                continue
            try:
                found[key] = [
                    Node(text=text, metadata=metadata, start=start, end=end, token_count=tokens)
                    for text, metadata, start, end, tokens in unpack(value)
                ]
            except (PayloadError, TypeError, ValueError):
                continue
        return found

    def put_nodes(self, entries: Mapping[str, Sequence[Node]]) -> None:
        """Remember nodes by step key."""
        self.backend.put_many(
            {
                key: pack([(node.text, node.metadata, node.start, node.end, node.token_count) for node in nodes])
                for key, nodes in entries.items()
            }
        )

    def embeddings(self, keys: Sequence[str], dimension: int) -> dict[str, NDArray[np.float32]]:
        """{key: vector} of the texts that are known."""
        import numpy as np

        size = 4 * dimension
        values = self.backend.get_many(keys)
        return {
            key: np.frombuffer(value, np.float32)
            for key, value in zip(keys, values, strict=True)
            if value is not None and len(value) == size
        }

    def put_embeddings(self, entries: Mapping[str, NDArray[np.float32]]) -> None:
        """Remember vectors by embedding key."""
        self.backend.put_many({key: vector.tobytes() for key, vector in entries.items()})
