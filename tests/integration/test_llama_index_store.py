"""LlamaIndex's store in Postgres as a vector store of ours: what the port promises, as far as its API goes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQuery, VectorStoreQueryResult
from sqlalchemy import Engine, create_engine, insert, make_url, text

from orchestrator.contracts.errors import CollectionMismatch, ConfigurationError, TransientError
from orchestrator.contracts.nodes import Node, node_id
from orchestrator.ledger.tables import collections
from workers.vector_stores import Collection, VectorStore, open_vector_store
from workers.vector_stores.llama_index import LlamaIndexVectorStore

pytestmark = pytest.mark.integration


class Plain(BasePydanticVectorStore):
    """A store that can do no more than LlamaIndex demands."""

    stores_text: bool = True

    @property
    def client(self) -> None:
        """Nothing."""

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        return []

    def delete(self, ref_doc_id: str, **kwargs: Any) -> None:
        """Forget."""

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        return VectorStoreQueryResult(nodes=[])


class Table:
    """A collection in a table of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = f"t{uuid4().hex}"
        self.label = f'llama_index/PGVectorStore {{"table_name": "{self.name}", "embed_dim": 3}}'
        self.store: VectorStore = LlamaIndexVectorStore(self.label, engine)
        self.open(self.name)

    def open(self, name: str, model: str = "model", dimension: int = 3) -> None:
        with self.engine.begin() as connection:
            self.store.open_collection(connection, Collection(name, model, dimension))

    def upsert(self, *nodes: Node) -> None:
        with self.engine.begin() as connection:
            self.store.upsert(connection, self.name, nodes)

    def remove_stale(self, keep: dict[str, list[str]]) -> int:
        with self.engine.begin() as connection:
            return self.store.remove_stale(connection, self.name, keep)

    def found(self, vector: Sequence[float], k: int = 10) -> list[str]:
        return [match.id for match in self.store.search(self.name, np.array(vector, dtype=np.float32), k)]

    def rows(self) -> list[tuple[int, str, str]]:
        """(number of the row, document id, our node id) of each row."""
        statement = f"SELECT id, metadata_->>'ref_doc_id', metadata_->>'docmill_node' FROM data_{self.name} ORDER BY 1"
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]


def node(document: str, position: int = 0, body: str = "text", vector: Sequence[float] = (1, 0, 0)) -> Node:
    return Node(
        text=body,
        metadata={"source": document},
        embedding=np.array(vector, dtype=np.float32),
        id=node_id("any", document, position, body),
        document_id=document,
        position=position,
    )


@pytest.fixture(scope="module")
def engine(postgres_url: str) -> Iterator[Engine]:
    """The ledger's engine; LlamaIndex's tables are in the same database."""
    engine = create_engine(postgres_url)
    collections.create(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION vector"))
    yield engine
    engine.dispose()


@pytest.fixture
def table(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Table:
    """A new, open collection of 3 dimensions."""
    for field, driver in (("CONNECTION_STRING", "psycopg2"), ("ASYNC_CONNECTION_STRING", "asyncpg")):
        address = make_url(engine.url).set(drivername=f"postgresql+{driver}")
        monkeypatch.setenv(f"DOCMILL_SECRET_PGVECTORSTORE_{field}", address.render_as_string(hide_password=False))
    return Table(engine)


def test_written_again_is_there_once(table: Table) -> None:
    """Nodes written again, in another order or twice in a call, are neither doubled nor touched."""
    nodes = [node("a", position, f"text {position}") for position in range(3)]
    table.upsert(*nodes)
    first = table.rows()
    table.upsert(*nodes[::-1], nodes[0])
    assert table.rows() == first
    assert sorted(id for _, _, id in first) == sorted(each.id for each in nodes)


def test_a_rolled_back_commit_is_made_good(table: Table) -> None:
    """A crash after the store was written and before the ledger was, run again, leaves each node once."""
    with table.engine.connect() as connection:
        table.store.upsert(connection, table.name, [node("a")])
        connection.rollback()
    table.upsert(node("a"), node("b"))
    assert [document for _, document, _ in table.rows()] == ["a", "b"]


def test_changed_metadata_replace_the_node(table: Table) -> None:
    """A node of the same id with other metadata is replaced, and others of its document stay as they are."""
    table.upsert(node("a"), node("a", 1))
    kept = table.rows()[1]
    table.upsert(replace(node("a"), metadata={"new": [1, {"k": "ä"}]}))
    assert kept in table.rows()
    assert len(table.rows()) == 2
    [match] = [match for match in table.store.search(table.name, np.ones(3, np.float32), 5) if match.position == 0]
    assert (match.id, match.metadata, match.document_id) == (node("a").id, {"new": [1, {"k": "ä"}]}, "a")


def test_the_new_is_there_before_the_old_is_gone(table: Table) -> None:
    """Where deleting fails, the old node and the new are both there: a document is never missing meanwhile."""
    table.upsert(node("a"))
    with table.engine.begin() as connection:
        connection.execute(
            text("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
        )
        connection.execute(
            text(f"CREATE TRIGGER refuse BEFORE DELETE ON data_{table.name} FOR EACH ROW EXECUTE FUNCTION refuse()")
        )
    with pytest.raises(Exception, match="no"):
        table.upsert(replace(node("a"), metadata={"new": True}))
    assert [document for _, document, _ in table.rows()] == ["a", "a"]
    with table.engine.begin() as connection:
        connection.execute(text("DROP FUNCTION refuse CASCADE"))
    table.upsert(replace(node("a"), metadata={"new": True}))
    assert len(table.rows()) == 1


@pytest.mark.parametrize(
    "name", ["it's", "'; DROP TABLE collections; --", "123", "1e5", "inf", "", "None", "%", ":name {x} \\", "漢字🜁"]
)
def test_any_document_id_is_removed_alone(table: Table, name: str) -> None:
    """Stale nodes are those of the named document alone, whatever its id looks like to SQL."""
    table.upsert(node(name), node(name, 1), node("other"), node("45"))
    assert table.remove_stale({name: [node(name, 1).id], "absent": []}) == 1
    left = [node(name, 1), node("other"), node("45")]
    assert sorted(id for _, _, id in table.rows()) == sorted(each.id for each in left)
    assert table.remove_stale({name: []}) == 1
    assert len(table.rows()) == 2


def test_search(table: Table) -> None:
    """The nearest come first with their cosine as score; vectors of zeros are not found."""
    table.upsert(node("far", vector=(-1, 0, 0)), node("near", vector=(4, 3, 0)), node("equal", vector=(9, 0, 0)))
    table.upsert(node("zero", vector=(0, 0, 0)))
    matches = table.store.search(table.name, np.array((2, 0, 0), np.float32), 10)
    assert [(match.document_id, match.text) for match in matches] == [
        ("equal", "text"),
        ("near", "text"),
        ("far", "text"),
    ]
    assert [match.score for match in matches] == pytest.approx([1.0, 0.8, -1.0], abs=1e-6)
    assert len(table.found((2, 0, 0), k=1)) == 1
    assert table.found((2, 0, 0), k=0) == []
    assert table.store.search("unknown", np.ones(3, np.float32), 1) == []


def test_what_cannot_be_one_collection(table: Table) -> None:
    """Another model, dimension, store or collection is refused, each with what is there."""
    table.open(table.name)
    with pytest.raises(CollectionMismatch, match=r"'model' with 3 dimensions.*'another' with 3 dimensions"):
        table.open(table.name, model="another")
    with pytest.raises(CollectionMismatch, match=r"of 3 dimensions.*with 4 dimensions"):
        table.open(table.name, dimension=4)
    with pytest.raises(CollectionMismatch, match="2 dimensions"):
        table.upsert(node("a", vector=(1, 0)))
    with pytest.raises(ConfigurationError, match=f"holds the collection '{table.name}' already"):
        table.open(f"second-{table.name}")
    with table.engine.begin() as connection:
        connection.execute(insert(collections).values(name=f"p{table.name}", store="pgvector", model="m", dimension=3))
    with pytest.raises(ConfigurationError, match="lives in another vector store"):
        table.open(f"p{table.name}")
    with pytest.raises(ConfigurationError, match="does not exist"), table.engine.begin() as connection:
        table.store.upsert(connection, "unknown", [node("a")])


def test_what_its_api_cannot_do(table: Table) -> None:
    """Listing and counting are refused with what to use; there is no index to build."""
    with pytest.raises(ConfigurationError, match=r"PGVectorStore cannot list its nodes.*own pgvector"):
        table.store.node_ids(table.name)
    with pytest.raises(ConfigurationError, match="PGVectorStore cannot count"):
        table.store.count(table.name)
    assert table.store.optimize(table.name, 0) is False


def test_drop(table: Table) -> None:
    """A dropped collection is gone with its nodes, and its name is free for another model."""
    table.upsert(node("a"))
    table.store.drop(table.name)
    table.store.drop(table.name)
    assert table.store.describe(table.name) is None
    assert table.rows() == []
    table.open(table.name, model="another")


def test_a_store_that_cannot_find_or_delete_is_refused(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store without filters and deletion by id is refused before anything is paid for."""
    monkeypatch.setenv("DOCMILL_LLAMA_INDEX_CLASSES", f"{__name__}:Plain")
    store = open_vector_store("llama_index/Plain {}", table.engine, None)  # type: ignore[arg-type]  # not SQLite's
    with pytest.raises(ConfigurationError, match="Plain cannot find nodes by their document"):
        store.describe("any")


def test_an_address_that_is_missing_or_wrong(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its address the store is refused with the variable to set; a server that is away may come back."""
    variable = "DOCMILL_SECRET_PGVECTORSTORE_CONNECTION_STRING"
    monkeypatch.setenv(variable, "postgresql+psycopg2://user@127.0.0.1:1/db")
    with pytest.raises(TransientError, match="OperationalError"):
        LlamaIndexVectorStore(table.label, table.engine).describe(table.name)
    monkeypatch.delenv(variable)
    with pytest.raises(ConfigurationError, match="DOCMILL_SECRET_PGVECTORSTORE_<FIELD>"):
        LlamaIndexVectorStore(table.label, table.engine).describe(table.name)
