"""Embed: gives every node the vector of its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from orchestrator.contracts.nodes import Node
from workers.transformations.contract import Transformation, transformation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Embed"]


@transformation("embed", version=1)
class Embed(Transformation):
    """Embed each node's text: `Embed("wordllama")`.

    Attributes:
        embedder: the name of an embedder; `get_embedder` knows them.
        batch_size: texts a call of the embedder.
    """

    tuning: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    embedder: str = Field(min_length=1)
    batch_size: int = Field(default=64, ge=1)

    @field_validator("embedder")
    @classmethod
    def _exists(cls, value: str) -> str:
        from workers.embedders.registry import check_embedder_name

        check_embedder_name(value)
        return value

    def __init__(self, embedder: str, **data: Any) -> None:
        super().__init__(**{**data, "embedder": embedder})

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Set `embedding` of all nodes, in place.

        Raises:
            UnknownName: no embedder has that name.
            TransientError, TerminalError: the embedder's own.
        """
        for node, vector in zip(nodes, self.embed_texts([node.text for node in nodes]), strict=True):
            node.embedding = vector
        return nodes

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, shape (len(texts), dimension); asks the embedder in calls of `batch_size` texts.

        Raises:
            UnknownName: no embedder has that name.
            TransientError, TerminalError: the embedder's own.
        """
        import numpy as np

        from workers.embedders.registry import get_embedder

        embedder = get_embedder(self.embedder)
        vectors = np.empty((len(texts), embedder.dimension), dtype=np.float32)
        for start in range(0, len(texts), self.batch_size):
            stop = start + self.batch_size
            vectors[start:stop] = embedder.embed(texts[start:stop])
        return vectors
