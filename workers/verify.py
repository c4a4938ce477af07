"""Verify: ledger and vector store compared, document by document and node by node, and what differs repaired.

Both sides come as streams in the same order, so that one document's node ids are all that is held of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby, islice
from operator import itemgetter

from sqlalchemy import Engine

from orchestrator.contracts.errors import CollectionNotFound, ConfigurationError
from orchestrator.contracts.nodes import nodes_hash
from orchestrator.contracts.spec import PipelineSpec
from orchestrator.ledger import audit
from orchestrator.ledger.audit import LedgerDocument
from orchestrator.ledger.engine import begin
from orchestrator.settings import Settings
from workers.embedders import get_embedder
from workers.vector_stores import VectorStore, open_vector_store

__all__ = ["Difference", "DifferenceKind", "Repair", "Verification", "compare"]

_HELD_AT_ONCE = 500  # documents locked by one transaction


class DifferenceKind(StrEnum):
    """How a document's nodes in the vector store differ from what the ledger says."""

    MISSING = "missing"  # there are fewer, or none
    STALE = "stale"  # they are not those of the committed version
    ORPHANED = "orphaned"  # there are some of a document that has none: unknown to the ledger, or an alias


class Repair(StrEnum):
    """What was done about a difference."""

    NONE = "none"
    REMOVED = "removed"  # its nodes are gone: this is mended
    TO_INGEST = "to ingest"  # the next ingestion of its source makes its nodes anew


@dataclass(frozen=True, slots=True)
class Difference:
    """A document whose nodes are not what the ledger says.

    Attributes:
        expected: nodes by the ledger.
        found: nodes in the vector store.
        version: of the ledger's row; None if there is none.
    """

    kind: DifferenceKind
    document_id: str
    expected: int
    found: int
    version: int | None
    repair: Repair = Repair.NONE


def compare(ledger: Iterable[LedgerDocument], stored: Iterable[tuple[str, str]]) -> Iterator[Difference]:
    """Merge the ledger's documents with the store's (document id, node id); both in the order of code points."""
    groups = ((id, [node for _, node in pairs]) for id, pairs in groupby(stored, itemgetter(0)))
    group = next(groups, None)
    for document in ledger:
        while group is not None and group[0] < document.id:
            yield _unknown(*group)
            group = next(groups, None)
        nodes: Sequence[str] = ()
        if group is not None and group[0] == document.id:
            nodes = group[1]
            group = next(groups, None)
        kind = _judge(document, nodes)
        if kind is not None:
            yield Difference(kind, document.id, document.node_count, len(nodes), document.version)
    while group is not None:
        yield _unknown(*group)
        group = next(groups, None)


def _unknown(document_id: str, nodes: Sequence[str]) -> Difference:
    return Difference(DifferenceKind.ORPHANED, document_id, 0, len(nodes), None)


def _judge(document: LedgerDocument, nodes: Sequence[str]) -> DifferenceKind | None:
    if nodes and not document.node_count:
        return DifferenceKind.ORPHANED
    if document.is_lost or len(nodes) < document.node_count:
        return DifferenceKind.MISSING
    # A document committed before hashes were written is checked by its number of nodes alone.
    if len(nodes) > document.node_count or (document.nodes_hash and nodes_hash(nodes) != document.nodes_hash):
        return DifferenceKind.STALE
    return None


class Verification:
    """The audit of one collection. `documents` and `nodes` count what has been compared so far.

    Raises:
        CollectionNotFound: neither the ledger nor the vector store knows the collection.
        ConfigurationError: its latest job has no vector store.
    """

    def __init__(self, engine: Engine, settings: Settings, collection: str) -> None:
        with begin(engine) as connection:
            self._spec: PipelineSpec | None = audit.latest_spec(connection, collection)
            self.jobs_at_work = audit.jobs_at_work(connection, collection)
            is_known = collection in audit.collection_names(connection)
        if self._spec is not None and self._spec.vector_store is None:
            raise ConfigurationError(
                f"collection {collection!r} has no vector store that could be verified: its nodes are its jobs' product"
            )
        self.collection = collection
        self.vector_store = (self._spec and self._spec.vector_store) or settings.vector_store
        self.documents = 0
        self.nodes = 0
        self._engine = engine
        self._models_path = settings.models_path
        self._store: VectorStore = open_vector_store(self.vector_store, engine, settings.sqlite_vectors_file)
        self._held = self._store.describe(collection)
        if self._held is None and not is_known:
            raise CollectionNotFound(collection)

    def wrong_model(self) -> str | None:
        """What is wrong with the collection's model, held against the embedder of its latest job; None if nothing.

        Raises:
            ConfigurationError: the embedder is not installed here.
        """
        if self._spec is None or self._spec.embedder is None or self._held is None:
            return None
        embedder = get_embedder(self._spec.embedder, self._models_path)
        if (self._held.model, self._held.dimension) == (embedder.model, embedder.dimension):
            return None
        return (
            f"the collection holds {self._held}, but the embedder {self._spec.embedder!r} of its latest job makes "
            f"vectors of {embedder.model!r} with {embedder.dimension} dimensions"
        )

    def differences(self, *, repair: bool = False) -> Iterator[Difference]:
        """Compare, and yield what differs, by document id; repaired as far as it can be, if asked.

        What a commit wrote meanwhile is no difference: each is looked at again while its document is held.
        """
        # The ledger's stream is opened first. A document that is then found unchanged was so while the store was read.
        with audit.documents_of(self._engine, self.collection) as documents:
            found = compare(self._counted(documents), self._counted_nodes(self._store.node_ids(self.collection)))
            while page := list(islice(found, _HELD_AT_ONCE)):
                repaired = {**self._settle_known(page, repair), **self._settle_unknown(page, repair)}
                for difference in page:
                    if difference.document_id in repaired:
                        yield replace(difference, repair=repaired[difference.document_id])

    def _counted(self, documents: Iterable[LedgerDocument]) -> Iterator[LedgerDocument]:
        for document in documents:
            self.documents += 1
            yield document

    def _counted_nodes(self, nodes: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        for pair in nodes:
            self.nodes += 1
            yield pair

    def _settle_known(self, page: Sequence[Difference], repair: bool) -> Mapping[str, Repair]:
        """{document id: what was done} of documents that the ledger knows, and that nothing happened to meanwhile."""
        known = {found.document_id: found for found in page if found.version is not None}
        if not known:
            return {}
        with begin(self._engine) as connection:
            versions = {id: found.version for id, found in known.items() if found.version is not None}
            unchanged = audit.hold_unchanged(connection, self.collection, versions)
            if not repair:
                return dict.fromkeys(unchanged, Repair.NONE)
            orphaned = {id for id in unchanged if known[id].kind is DifferenceKind.ORPHANED}
            self._store.remove_stale(connection, self.collection, dict.fromkeys(orphaned, ()))
            audit.forget_contents(connection, self.collection, unchanged - orphaned)
        return dict.fromkeys(unchanged, Repair.TO_INGEST) | dict.fromkeys(orphaned, Repair.REMOVED)

    def _settle_unknown(self, page: Sequence[Difference], repair: bool) -> Mapping[str, Repair]:
        """{document id: what was done} of documents that the ledger still does not know."""
        unknown = [found.document_id for found in page if found.version is None]
        if not unknown:
            return {}
        with begin(self._engine) as connection, audit.held_unknown(connection, self.collection, unknown) as held:
            if repair:
                self._store.remove_stale(connection, self.collection, dict.fromkeys(held, ()))
        return dict.fromkeys(held, Repair.REMOVED if repair else Repair.NONE)
