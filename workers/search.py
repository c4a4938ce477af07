"""Search: a question becomes a vector by the collection's own embedder, and finds the nodes nearest to it."""

from __future__ import annotations

from sqlalchemy import Engine

from orchestrator.contracts.errors import CollectionMismatch, CollectionNotFound
from orchestrator.settings import Settings
from workers.embedders import get_embedder
from workers.embedders.registry import embedder_name
from workers.vector_stores import Match, open_vector_store

__all__ = ["search"]


def search(
    engine: Engine, settings: Settings, query: str, *, collection: str, k: int = 5, vector_store: str | None = None
) -> list[Match]:
    """The k nodes nearest to the query by cosine, best first.

    Args:
        engine: the ledger's.
        settings: say where the vector store is, unless `vector_store` does.

    Raises:
        CollectionNotFound: there is none of that name.
        CollectionMismatch: the model installed here is not the one the collection was made with.
    """
    store = open_vector_store(vector_store or settings.vector_store, engine, settings.sqlite_vectors_file)
    held = store.describe(collection)
    if held is None:
        raise CollectionNotFound(collection)
    embedder = get_embedder(embedder_name(held.model), settings.models_path)
    if (embedder.model, embedder.dimension) != (held.model, held.dimension):
        raise CollectionMismatch(collection, str(held), f"vectors of {embedder.model!r}")
    return store.search(collection, embedder.embed([query])[0], k)
