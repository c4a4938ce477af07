"""What the crash tests ingest: two generations of one collection that follow upon each other, and a client that dies.

Each generation makes documents new, changed, unchanged and vanished for the one before, and has a document whose whole
batch fails, so that every failpoint lies on the way of one small job.
"""

import sys
from collections.abc import Sequence

from orchestrator.connections import Connections
from orchestrator.contracts.documents import Document
from orchestrator.contracts.nodes import Node
from orchestrator.pipeline import IngestionPipeline
from orchestrator.settings import load_settings
from workers.transformations import Embed, SentenceSplitter
from workers.transformations.contract import Transformation, transformation

__all__ = ["COLLECTION", "Overfull", "generation", "ingest", "pipeline"]

COLLECTION = "crashing"
_DOCUMENTS = 40
_VANISHING = 8
_POISON = Document(id="poison", text="This one does not fit into memory: overfull.")


@transformation("test_overfull", version=1)
class Overfull(Transformation):
    """Runs out of memory at documents that hold a word, which nobody can blame on one document of the batch."""

    word: str = "overfull"

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Raise what lets the whole batch fail."""
        if any(self.word in node.text for node in nodes):
            raise MemoryError(f"{self.word} documents do not fit")
        return nodes


def generation(number: int) -> list[Document]:
    """The documents of a generation; those of all even ones are the same, and so are those of all odd ones."""
    odd = number % 2
    first = _VANISHING * odd
    documents = [_document(index, odd) for index in range(first, first + _DOCUMENTS - _VANISHING)]
    documents.insert(20, _POISON)
    return documents


def _document(index: int, odd: int) -> Document:
    says = "something else" if odd and index % 3 == 0 else "one thing"
    return Document(id=f"doc{index:02}", text=f"Document {index} tells of topic{index} and of {says}. " * 12)


def pipeline(connections: Connections) -> IngestionPipeline:
    """The pipeline of the crash tests."""
    return IngestionPipeline(
        COLLECTION,
        [Overfull(), SentenceSplitter(chunk_size=64, chunk_overlap=8), Embed("hashed")],
        docstore_strategy="upserts_and_delete",
        vector_store="pgvector",
        connections=connections,
    )


def ingest(numbers: Sequence[str] = tuple(sys.argv[1:])) -> None:
    """A client of its own process: enqueue a generation, or with a second argument only so many documents of it."""
    documents = generation(int(numbers[0]))
    if len(numbers) > 1:
        documents = [document for document in documents if document is not _POISON][: int(numbers[1])]
    connections = Connections(load_settings())
    pipeline(connections).enqueue(documents)
    connections.close()
