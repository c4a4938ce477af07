"""A vector store of LlamaIndex: what its indices and retrievers read, written by our workers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from orchestrator.contracts.errors import CollectionMismatch, ConfigurationError, DocmillError
from orchestrator.contracts.hashing import canonical_json, digest
from orchestrator.contracts.llama_index import parse_label
from orchestrator.contracts.nodes import Node
from orchestrator.ledger.tables import collections
from workers.providers.llama_index import build_component, check_component_name, llama_index_errors, secrets_hint
from workers.providers.llama_index_nodes import as_text_node
from workers.vector_stores.contract import Collection, Match
from workers.vector_stores.vectors import check_opened, check_vector, last_of_each_id, stack_embeddings

if TYPE_CHECKING:
    import numpy as np
    from llama_index.core.schema import BaseNode, TextNode
    from llama_index.core.vector_stores.types import MetadataFilters
    from numpy.typing import NDArray
    from sqlalchemy import Connection, Engine

__all__ = ["LlamaIndexVectorStore"]

# What LlamaIndex has no place for, in each node's metadata; shown to no model.
_NODE, _DOCUMENT, _POSITION = "docmill_node", "docmill_document", "docmill_position"
_HIDDEN = (_NODE, _DOCUMENT, _POSITION)
# The fields by which LlamaIndex's stores name the place they write to.
_PLACE = ("schema_name", "table_name", "collection_name", "index_name", "namespace")
_DOCUMENTS_AT_ONCE = 200  # in one filter


class LlamaIndexVectorStore:
    """One collection in one vector store of LlamaIndex, and its row in the ledger's table of collections.

    LlamaIndex's `add` writes a node under its id without looking whether it is there, so an id here names all that is
    stored of a node: what is there already is the same, and is not written again; what is new is added before what it
    replaces is deleted. Needs a store that finds nodes by filters and deletes them by id. Two commits of one document
    wait for each other in the ledger.

    Raises:
        ConfigurationError: the label is none, or names a class that is not registered here.
    """

    in_ledger = False

    def __init__(self, label: str, engine: Engine) -> None:
        self._name, self._state = parse_label(label)
        check_component_name(self._name)
        self._engine = engine
        place = {key: self._state.get(key) for key in _PLACE}
        self._key = "llama_index/" + digest(self._name, canonical_json(place))[:20]  # the ledger has room for 32

    def open_collection(self, connection: Connection, collection: Collection) -> None:
        """Make the collection where it is missing.

        Raises:
            CollectionMismatch: it exists with another model or dimension, or the store's vectors have another.
            ConfigurationError: the name belongs to another vector store, or this one holds another collection.
        """
        dimension = getattr(self._store, "embed_dim", collection.dimension)
        if dimension != collection.dimension:
            raise CollectionMismatch(collection.name, f"vectors of {dimension} dimensions", str(collection))
        held = self._find(connection, collection.name)
        if held is None:
            self._make(connection, collection)
        elif held != collection:
            raise CollectionMismatch(collection.name, str(held), str(collection))

    def describe(self, name: str) -> Collection | None:
        """The collection of that name, or None. Asked before anything is paid for, and so the store is looked at too.

        Raises:
            ConfigurationError: the store cannot be made or reached as it is described, or cannot do what is needed.
            TransientError: it does not answer.
        """
        _ = self._store
        with self._engine.connect() as connection:
            return self._find(connection, name)

    def upsert(self, connection: Connection, collection: str, nodes: Sequence[Node], *, new: bool = False) -> None:
        """Add nodes that are not there as they are, then delete what they replace; of several with one id the last.

        Raises:
            CollectionMismatch: a vector has another dimension than the collection.
            ConfigurationError: the collection does not exist, a node has no finite vector, or the store cannot do this.
            TransientError: the store does not answer.
        """
        held = check_opened(collection, self._find(connection, collection))
        nodes = last_of_each_id(nodes)
        matrix = stack_embeddings(held, nodes)
        made = {each.node_id: each for each in map(_as_stored, nodes, matrix.tolist())}
        replaced = {node.id for node in nodes}
        there = self._nodes_of({node.document_id for node in nodes})
        missing = [each for id, each in made.items() if id not in there]
        if missing:
            with llama_index_errors():
                self._store.add(missing)
        self._delete(id for id, each in there.items() if each.metadata[_NODE] in replaced and id not in made)

    def remove_stale(self, connection: Connection, collection: str, keep: Mapping[str, Sequence[str]]) -> int:
        """Remove the nodes of the given documents that are not kept. Returns how many."""
        if self._find(connection, collection) is None:
            return 0
        kept = {node_id for node_ids in keep.values() for node_id in node_ids}
        return self._delete(id for id, each in self._nodes_of(keep).items() if each.metadata[_NODE] not in kept)

    def search(self, collection: str, vector: NDArray[np.float32], k: int) -> list[Match]:
        """The k nodes nearest by the store's own measure, best first; which of equal ones, it decides.

        Raises:
            CollectionMismatch: the vector has another dimension than the collection.
            TransientError: the store does not answer.
        """
        from llama_index.core.vector_stores.types import VectorStoreQuery

        held = self.describe(collection)
        if held is None or k < 1:
            return []
        check_vector(held, vector)
        with llama_index_errors():
            found = self._store.query(VectorStoreQuery(query_embedding=vector.tolist(), similarity_top_k=k))
        scored = zip(found.similarities or [], found.nodes or [], strict=True)
        # A vector of zeros points nowhere, and is near nothing.
        matches = [_match(node, score) for score, node in scored if not math.isnan(score)]
        return sorted(matches, key=lambda match: (-match.score, match.id))

    def count(self, collection: str) -> int:
        """Raises ConfigurationError: LlamaIndex's stores cannot count."""
        raise self._cannot("count its nodes")

    def node_ids(self, collection: str) -> Iterator[tuple[str, str]]:
        """Raises ConfigurationError: LlamaIndex's stores cannot list what they hold."""
        raise self._cannot("list its nodes, so `docmill verify` cannot compare them")

    def drop(self, collection: str) -> None:
        """Remove the collection with its nodes; nothing happens where there is none."""
        with self._engine.begin() as connection:
            if self._find(connection, collection) is None:
                return
            with llama_index_errors():
                self._store.clear()
            connection.execute(delete(collections).where(collections.c.name == collection))

    def optimize(self, collection: str, min_rows: int) -> bool:
        """False: indexes are the store's own, as its fields say."""
        return False

    def close(self) -> None:
        """Nothing to let go of: LlamaIndex's stores hold their connections as long as the process lives."""

    @cached_property
    def _store(self) -> Any:
        """The store, once it has shown that it can be asked."""
        from llama_index.core.vector_stores.types import BasePydanticVectorStore

        store = build_component(self._name, self._state)
        for method, what in (("get_nodes", "find nodes by their document"), ("delete_nodes", "delete nodes by id")):
            if getattr(type(store), method) is getattr(BasePydanticVectorStore, method):
                raise self._cannot(what)
        try:
            with llama_index_errors():
                store.get_nodes(filters=_filters([_mark("")]))
        except DocmillError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f"LlamaIndex's {self._name} cannot be used here: {type(error).__name__}: {error}. "
                + secrets_hint(self._name)
            ) from error
        return store

    def _find(self, connection: Connection, name: str) -> Collection | None:
        row = connection.execute(
            select(collections).where(collections.c.name == name, collections.c.store == self._key)
        ).one_or_none()
        return Collection(row.name, row.model, row.dimension) if row else None

    def _make(self, connection: Connection, collection: Collection) -> None:
        """Write the ledger's row, unless another process is first."""
        try:
            with connection.begin_nested():
                connection.execute(
                    insert(collections).values(
                        name=collection.name, store=self._key, model=collection.model, dimension=collection.dimension
                    )
                )
        except IntegrityError:
            held = self._find(connection, collection.name)
            if held is None:
                raise ConfigurationError(
                    f"collection {collection.name!r} lives in another vector store; use another collection"
                ) from None
            if held != collection:
                raise CollectionMismatch(collection.name, str(held), str(collection)) from None
        other = connection.execute(
            select(collections.c.name).where(collections.c.store == self._key, collections.c.name != collection.name)
        ).first()
        if other is not None:
            raise ConfigurationError(
                f"this {self._name} holds the collection {other.name!r} already, and LlamaIndex's stores keep no two "
                f"apart: give {collection.name!r} a table or a collection of its own"
            )

    def _nodes_of(self, document_ids: Iterator[str] | set[str] | Mapping[str, Any]) -> dict[str, BaseNode]:
        """{id in the store: node} of all nodes of these documents."""
        marks = [_mark(document_id) for document_id in document_ids]
        found: dict[str, BaseNode] = {}
        for start in range(0, len(marks), _DOCUMENTS_AT_ONCE):
            with llama_index_errors():
                nodes = self._store.get_nodes(filters=_filters(marks[start : start + _DOCUMENTS_AT_ONCE]))
            found.update((node.node_id, node) for node in nodes)
        return found

    def _delete(self, ids: Iterator[str]) -> int:
        stale = list(ids)
        if stale:
            with llama_index_errors():
                self._store.delete_nodes(node_ids=stale)
        return len(stale)

    def _cannot(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"LlamaIndex's {self._name} cannot {what}: use docmill's own pgvector for that")


def _mark(document_id: str) -> str:
    """Names a document in a filter. LlamaIndex's filters are put into SQL as they are, and take digits for numbers."""
    return "d" + digest(document_id)


def _filters(marks: list[str]) -> MetadataFilters:
    from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

    return MetadataFilters(filters=[MetadataFilter(key=_DOCUMENT, value=marks, operator=FilterOperator.IN)])


def _as_stored(node: Node, embedding: list[float]) -> TextNode:
    metadata = {**node.metadata, _NODE: node.id, _DOCUMENT: _mark(node.document_id), _POSITION: node.position}
    id = digest(node.id, canonical_json(node.metadata), repr(embedding))[:32]
    made = as_text_node(id, node.text, metadata, node.document_id, hidden=_HIDDEN)
    made.embedding = embedding
    made.start_char_idx, made.end_char_idx = node.start, node.end
    return made


def _match(node: BaseNode, score: float) -> Match:
    metadata = dict(node.metadata)
    own = {key: metadata.pop(key) for key in _HIDDEN}
    return Match(own[_NODE], node.ref_doc_id or "", own[_POSITION], node.get_content(), metadata, score)
