"""Node: a piece of a document, ready to be embedded and stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.contracts.hashing import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Node", "node_id", "nodes_hash"]


@dataclass(slots=True)
class Node:
    """A piece of a document. A whole document enters the chain as one node that spans it.

    Attributes:
        text: what is embedded and found.
        metadata: the document's, plus what transformations add; JSON values only.
        start, end: the span in characters within the document's parsed text; None where a transformation made
            text that does not stand in the document.
        token_count: tokens of `text`, by the tokenizer of the splitter; 0 until counted.
        content: bytes that are not parsed yet; only the first transformation sees them.
        embedding: float32, one dimension; None until embedded.
        id, document_id, position, previous_id, next_id: identity, bound when the chain has ended.
    """

    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    start: int | None = None
    end: int | None = None
    token_count: int = 0
    content: bytes | None = None
    embedding: NDArray[np.float32] | None = None
    id: str = ""
    document_id: str = ""
    position: int = 0
    previous_id: str | None = None
    next_id: str | None = None


def node_id(collection: str, document_id: str, position: int, text: str) -> str:
    """The same node of the same document always has the same id (DESIGN rule 3): 32 hex characters, a valid UUID."""
    return digest(collection, document_id, str(position), text)[:32]


def nodes_hash(ids: Iterable[str]) -> str:
    """Names the nodes of one document, in whatever order their ids come: 40 hex characters.

    An id holds its node's position already, and a vector store streams the ids of a document sorted.
    """
    return digest(*sorted(ids))
