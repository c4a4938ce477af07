"""docmill's collections as LlamaIndex reads them: a vector store and an embedding model of LlamaIndex's own kind.

    index = VectorStoreIndex.from_vector_store(
        CollectionVectorStore.of(engine, settings, "handbook"), embed_model=CollectionEmbedding("wordllama")
    )

Importing this module imports LlamaIndex.
"""

from collections.abc import Sequence
from typing import Any, Self

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from sqlalchemy import Engine

from orchestrator.contracts.errors import CollectionNotFound, ConfigurationError
from orchestrator.settings import Settings
from workers.embedders import get_embedder
from workers.embedders.registry import embedder_name
from workers.providers.llama_index_nodes import as_text_node
from workers.vector_stores import VectorStore, open_vector_store

__all__ = ["CollectionEmbedding", "CollectionVectorStore"]


class CollectionEmbedding(BaseEmbedding):
    """An embedder of docmill, by its registered name."""

    def __init__(self, embedder: str, **data: Any) -> None:
        super().__init__(model_name=embedder, **data)

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for this class."""
        return "CollectionEmbedding"

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = get_embedder(self.model_name).embed(texts).tolist()
        return vectors

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


class CollectionVectorStore(BasePydanticVectorStore):
    """A collection of docmill, in whichever vector store it is, to be read alone: its writer is `IngestionPipeline`.

    Finds by vector; LlamaIndex's filters and hybrid modes are refused.
    """

    stores_text: bool = True
    collection: str

    _store: VectorStore = PrivateAttr()

    @classmethod
    def of(cls, engine: Engine, settings: Settings, collection: str, vector_store: str | None = None) -> Self:
        """The collection of that name.

        Args:
            engine: the ledger's.
            settings: say where the vector store is, unless `vector_store` does.

        Raises:
            CollectionNotFound: there is none of that name.
        """
        store = open_vector_store(vector_store or settings.vector_store, engine, settings.sqlite_vectors_file)
        if store.describe(collection) is None:
            raise CollectionNotFound(collection)
        made = cls(collection=collection)
        made._store = store
        return made

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for this class."""
        return "CollectionVectorStore"

    @property
    def client(self) -> VectorStore:
        """docmill's vector store."""
        return self._store

    @property
    def embedding(self) -> CollectionEmbedding:
        """The embedding model that the collection was made with.

        Raises:
            CollectionNotFound: the collection is gone by now.
        """
        held = self._store.describe(self.collection)
        if held is None:
            raise CollectionNotFound(self.collection)
        return CollectionEmbedding(embedder_name(held.model))

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes nearest by cosine, best first.

        Raises:
            ConfigurationError: the query asks for more than the nearest nodes.
            CollectionMismatch: its vector has another dimension than the collection.
        """
        import numpy as np

        if query.query_embedding is None or query.mode is not VectorStoreQueryMode.DEFAULT:
            raise ConfigurationError(
                f"a collection of docmill is searched by a vector alone, not in mode {query.mode!r}"
            )
        if query.filters or query.node_ids or query.doc_ids:
            raise ConfigurationError(
                "a collection of docmill takes no filters: search it by SQL, or filter what is found"
            )
        vector = np.asarray(query.query_embedding, dtype=np.float32)
        matches = self._store.search(self.collection, vector, query.similarity_top_k)
        return VectorStoreQueryResult(
            nodes=[as_text_node(match.id, match.text, match.metadata, match.document_id) for match in matches],
            similarities=[match.score for match in matches],
            ids=[match.id for match in matches],
        )

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Raises ConfigurationError: collections are written by docmill's pipelines."""
        raise ConfigurationError("a collection is read here; write to it by IngestionPipeline")

    def delete(self, ref_doc_id: str, **kwargs: Any) -> None:
        """Raises ConfigurationError: collections are written by docmill's pipelines."""
        raise ConfigurationError(
            "a collection is read here; documents vanish by docstore_strategy='upserts_and_delete'"
        )
