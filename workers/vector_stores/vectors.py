"""What stores share: the check of vectors on their way in, and the exact search of those without an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from orchestrator.contracts.errors import CollectionMismatch, ConfigurationError
from orchestrator.contracts.nodes import Node
from workers.vector_stores.contract import Collection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["NearestIds", "check_opened", "check_vector", "last_of_each_id", "stack_embeddings"]


def check_opened(name: str, collection: Collection | None) -> Collection:
    """The collection itself.

    Raises:
        ConfigurationError: there is none.
    """
    if collection is None:
        raise ConfigurationError(f"collection {name!r} does not exist: open it before nodes are written to it")
    return collection


def check_vector(collection: Collection, vector: NDArray[np.float32]) -> None:
    """Hold a vector against its collection.

    Raises:
        CollectionMismatch: it has another dimension.
    """
    if vector.shape != (collection.dimension,):
        shape = " x ".join(map(str, vector.shape))
        raise CollectionMismatch(collection.name, str(collection), f"a vector with {shape} dimensions")


def last_of_each_id(nodes: Sequence[Node]) -> list[Node]:
    """The nodes ordered by id; of several with one id the last.

    Writers that take rows in one order wait for each other, and never in a circle.
    """
    by_id = {node.id: node for node in nodes}
    return [by_id[node_id] for node_id in sorted(by_id)]


def stack_embeddings(collection: Collection, nodes: Sequence[Node]) -> NDArray[np.float32]:
    """The nodes' embeddings as one matrix, a row a node.

    Raises:
        CollectionMismatch: a vector has another dimension than the collection.
        ConfigurationError: a node has no vector, or one with NaN or infinity in it.
    """
    import numpy as np

    rows: list[NDArray[np.float32]] = []
    for node in nodes:
        if node.embedding is None:
            raise ConfigurationError(
                f"node {node.id} of document {node.document_id!r} has no embedding; "
                "a pipeline with a vector store ends with the transformation `embed`"
            )
        check_vector(collection, node.embedding)
        rows.append(node.embedding)
    matrix = np.asarray(rows, dtype=np.float32).reshape(len(rows), collection.dimension)
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        node = nodes[int(np.argmin(finite))]
        raise ConfigurationError(
            f"node {node.id} of document {node.document_id!r} has a vector with NaN or infinity in it; "
            f"the embedder {collection.model!r} made it"
        )
    return matrix


class NearestIds:
    """The k ids nearest to a vector by cosine among those added, block by block; ties by id.

    Exact. Holds k ids, whatever is added. A vector of zeros points nowhere and is near nothing.
    """

    def __init__(self, vector: NDArray[np.float32], k: int) -> None:
        import numpy as np

        self._length = float(np.linalg.norm(vector))
        self._vector = vector
        self._k = k
        self._nearest: list[tuple[float, str]] = []  # (-score, id), best first

    def add(self, ids: Sequence[str], matrix: NDArray[np.float32]) -> None:
        """Look at a block: an id and a row each."""
        import numpy as np

        lengths = np.linalg.norm(matrix, axis=1) * self._length
        pointing = np.flatnonzero(lengths)
        # Row by row: a product of matrices may score equal rows differently in the last bit, and break no tie.
        scores = np.minimum(np.vecdot(matrix[pointing], self._vector) / lengths[pointing], 1.0)
        if len(scores) > self._k:
            among = np.flatnonzero(scores >= np.partition(scores, -self._k)[-self._k])
            pointing, scores = pointing[among], scores[among]
        added = [(-float(score), ids[index]) for index, score in zip(pointing.tolist(), scores, strict=True)]
        self._nearest = sorted(self._nearest + added)[: self._k]

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """(id, score), best first."""
        return ((node_id, -negative) for negative, node_id in self._nearest)
