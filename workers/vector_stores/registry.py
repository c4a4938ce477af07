"""Vector stores by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.contracts.errors import ConfigurationError, UnknownName
from workers.vector_stores.contract import VectorStore

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["open_vector_store"]

_KNOWN = ("memory", "pgvector", "sqlite", "llama_index/<class> {<its state as JSON>}")


def open_vector_store(name: str, engine: Engine, sqlite_path: Path) -> VectorStore:
    """The vector store of that name.

    Args:
        name: `pgvector` (in the ledger's Postgres), `sqlite` (a file), `memory` (this process alone), or the label of a
            LlamaIndex component.
        engine: the ledger's.
        sqlite_path: the file of the sqlite store; made where it is missing.

    Raises:
        UnknownName: no vector store has that name.
        ConfigurationError: a label that names no component; or `pgvector`, but the ledger is not a Postgres reached
            through psycopg.
    """
    if name == "pgvector":
        if (engine.dialect.name, engine.dialect.driver) != ("postgresql", "psycopg"):
            raise ConfigurationError(
                f"vector store 'pgvector' lives in the ledger's database, which is {engine.dialect.name} through "
                f"{engine.dialect.driver}: use a DOCMILL_DATABASE_URL of postgresql+psycopg://, "
                "or DOCMILL_VECTOR_STORE=sqlite"
            )
        from workers.vector_stores.pgvector import PgVectorStore

        return PgVectorStore(engine)
    if name == "sqlite":
        from workers.vector_stores.sqlite import SqliteVectorStore

        return SqliteVectorStore(sqlite_path)
    if name == "memory":
        from workers.vector_stores.memory import MemoryVectorStore

        return MemoryVectorStore()
    if name.startswith("llama_index/"):
        from workers.vector_stores.llama_index import LlamaIndexVectorStore

        return LlamaIndexVectorStore(name, engine)
    raise UnknownName("vector store", name, _KNOWN)
