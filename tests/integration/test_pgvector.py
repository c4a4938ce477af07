"""What only the vector store in Postgres promises: transactions, the index, and names in a real catalog."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, create_engine, insert, text

from orchestrator.contracts.errors import ConfigurationError, DocumentError, ServiceUnreachable
from orchestrator.contracts.nodes import Node, node_id
from orchestrator.ledger.tables import collections
from workers.vector_stores import Collection
from workers.vector_stores.pgvector import PgVectorStore

pytestmark = pytest.mark.integration

DIMENSION = 16


@pytest.fixture(scope="module")
def engine(postgres_url: str) -> Iterator[Engine]:
    """A ledger's engine, with the table of collections."""
    engine = create_engine(postgres_url)
    collections.create(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> PgVectorStore:
    """The store over that engine."""
    return PgVectorStore(engine)


@pytest.fixture
def name(store: PgVectorStore, engine: Engine) -> str:
    """A new, open collection."""
    collection = Collection(f"c_{uuid4().hex[:12]}", "model", DIMENSION)
    with engine.begin() as connection:
        store.open_collection(connection, collection)
    return collection.name


def vectors(count: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)


def nodes(count: int, text: str = "text") -> list[Node]:
    return [
        Node(text, {"n": number}, embedding=row, id=node_id("any", str(number), 0, text), document_id=str(number))
        for number, row in enumerate(vectors(count))
    ]


def fill(store: PgVectorStore, engine: Engine, name: str, count: int) -> list[Node]:
    written = nodes(count)
    with engine.begin() as connection:
        store.upsert(connection, name, written)
    return written


def indexes(engine: Engine, name: str) -> dict[str, bool]:
    """Each index of a collection's table, and whether it is complete."""
    statement = text(
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = to_regclass(:table)"
    )
    with engine.connect() as connection:
        return {row.relname: row.indisvalid for row in connection.execute(statement, {"table": f'"nodes_{name}"'})}


def test_rollback_of_a_write(store: PgVectorStore, engine: Engine, name: str) -> None:
    """A transaction that is rolled back leaves no node it wrote, and keeps every node it removed."""
    fill(store, engine, name, 10)
    with engine.connect() as connection:
        store.upsert(connection, name, nodes(20, "other"))
        assert store.remove_stale(connection, name, {"3": []}) == 2
        connection.rollback()
    assert store.count(name) == 10


def test_rollback_of_an_opening(store: PgVectorStore, engine: Engine) -> None:
    """A collection whose making is rolled back does not exist, and the same store makes it again."""
    collection = Collection(f"r_{uuid4().hex[:12]}", "model", DIMENSION)
    with engine.connect() as connection:
        store.open_collection(connection, collection)
        store.upsert(connection, collection.name, nodes(1))
        connection.rollback()
    assert store.describe(collection.name) is None
    with engine.begin() as connection:
        store.open_collection(connection, collection)
        store.upsert(connection, collection.name, nodes(1))
    assert store.count(collection.name) == 1


def test_several_writes_in_one_transaction(store: PgVectorStore, engine: Engine, name: str) -> None:
    """One transaction may write several times, and sees what it wrote."""
    with engine.begin() as connection:
        store.upsert(connection, name, nodes(5))
        store.upsert(connection, name, nodes(8))
        assert store.remove_stale(connection, name, {"0": []}) == 1
    assert store.count(name) == 7


def test_a_node_lies_in_one_row(store: PgVectorStore, engine: Engine, name: str) -> None:
    """A text of several kB is laid down beside its vector, not apart, whether its nodes are new or written again."""
    apart = text("SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE relname = :table")
    for number in range(2):
        said = [replace(node, text=f"{number} {node.text}") for node in nodes(20, "words " * 1000)]
        with engine.begin() as connection:
            store.upsert(connection, name, said)
        with engine.connect() as connection:
            assert connection.execute(apart, {"table": f"nodes_{name}"}).scalar_one() == 0


def test_unchanged_rows_are_not_written(store: PgVectorStore, engine: Engine, name: str) -> None:
    """Writing nodes again touches only the rows that differ."""

    def versions(connection: Connection) -> dict[str, str]:
        rows = connection.execute(text(f'SELECT document_id, CAST(xmin AS text) FROM "nodes_{name}"'))
        return {row.document_id: row.xmin for row in rows}

    written = fill(store, engine, name, 5)
    written[2].metadata = {"n": "changed"}
    with engine.begin() as connection:
        before = versions(connection)
        store.upsert(connection, name, written)
        after = versions(connection)
    assert [document for document in before if before[document] != after[document]] == ["2"]


def test_writing_into_a_filling_table_reads_no_more_of_it(store: PgVectorStore, engine: Engine, name: str) -> None:
    """In a table that Postgres has no statistics of yet, writing and removing look rows up, and never read them all."""
    written = fill(store, engine, name, 20_000)
    _scans_of_the_whole(engine)  # what went before is counted
    before = _scans_of_the_whole(engine)
    for start in range(0, 2000, 100):  # more often than a driver goes before it plans a statement once for all
        news = [
            replace(node, id=node.id[::-1], document_id=f"new {node.document_id}") for node in written[start:][:100]
        ]
        with engine.begin() as connection:
            store.upsert(connection, name, news)
            keep = {node.document_id: [node.id] for node in news}
            assert store.remove_stale(connection, name, keep) == 0
            stale = {written[start].document_id: ["0" * 32]}
            assert store.remove_stale(connection, name, stale) == 1
    assert _scans_of_the_whole(engine) == before


def _scans_of_the_whole(engine: Engine) -> int:
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
    with engine.begin() as connection:
        found = "SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_user_tables WHERE relname LIKE 'nodes_c%'"
        return int(connection.execute(text(found)).scalar_one())


def test_drop_waits_for_writers(store: PgVectorStore, engine: Engine, name: str) -> None:
    """A collection that a transaction has opened is not dropped under it."""
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as connection:
            store.open_collection(connection, Collection(name, "model", DIMENSION))
            dropping = threads.submit(store.drop, name)
            _wait_for_a_blocked_backend(engine)
            store.upsert(connection, name, nodes(3))
        dropping.result()
    assert store.describe(name) is None
    assert indexes(engine, name) == {}


def _wait_for_a_blocked_backend(engine: Engine) -> None:
    blocked = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    pause = threading.Event()
    for _ in range(500):
        with engine.connect() as connection:
            if connection.execute(blocked).scalar_one():
                return
        pause.wait(0.01)
    pytest.fail("nobody waits for a lock")


def test_index(store: PgVectorStore, engine: Engine, name: str) -> None:
    """The index is built once the collection is large enough, once, and searches go through it."""
    written = fill(store, engine, name, 6000)
    assert store.optimize(name, 6001) is False
    assert store.optimize(name, 6000) is True
    assert store.optimize(name, 6000) is False
    assert indexes(engine, name)[f"nodes_{name}~hnsw"] is True

    # One connection for all: a backend's counts are told at the end of its transaction, if it is asked to.
    alone = create_engine(engine.url, pool_size=1, max_overflow=0)
    before = _scans(alone, name)
    found = PgVectorStore(alone).search(name, vectors(1)[0], 5)
    assert _scans(alone, name) > before
    alone.dispose()
    assert found[0].id == written[0].id
    assert found[0].score == pytest.approx(1.0)


def _scans(engine: Engine, name: str) -> int:
    """How often the index was read."""
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        connection.commit()
        statement = text("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = :index")
        return int(connection.execute(statement, {"index": f"nodes_{name}~hnsw"}).scalar_one())


def test_search_through_the_index_is_complete(store: PgVectorStore, engine: Engine, name: str) -> None:
    """With an index, a search still gives k nodes: after most were removed, and for a k above what HNSW gathers."""
    written = fill(store, engine, name, 2000)
    assert store.optimize(name, 1)
    # So small a table is read as a whole, unless that is forbidden.
    indexed = PgVectorStore(create_engine(engine.url, connect_args={"options": "-c enable_seqscan=off"}))
    assert len(indexed.search(name, vectors(1)[0], 1500)) == 1500
    with engine.begin() as connection:
        store.remove_stale(connection, name, {node.document_id: [] for node in written[60:]})
    for k in (1, 10, 50, 60, 600):
        matches = indexed.search(name, vectors(1, seed=k)[0], k)
        assert len(matches) == min(k, 60)
        assert [match.score for match in matches] == sorted((match.score for match in matches), reverse=True)


def test_broken_build(store: PgVectorStore, engine: Engine, name: str) -> None:
    """An index that a broken build left behind is built anew."""
    fill(store, engine, name, 50)
    assert store.optimize(name, 1)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(:index)"),
            {"index": f'"nodes_{name}~hnsw"'},
        )
    assert store.optimize(name, 1) is True
    assert indexes(engine, name)[f"nodes_{name}~hnsw"] is True


def test_builders_at_once(store: PgVectorStore, engine: Engine, name: str) -> None:
    """Of several that ask for the index at once, one builds it."""
    fill(store, engine, name, 500)
    with ThreadPoolExecutor(4) as threads:
        built = list(threads.map(lambda _: store.optimize(name, 1), range(4)))
    assert sorted(built) == [False, False, False, True]
    assert all(indexes(engine, name).values())


def test_building_leaves_no_settings(store: PgVectorStore, engine: Engine, name: str) -> None:
    """The memory and the lock of a build end with it; the pool's connections do not keep them."""
    fill(store, engine, name, 10)
    with engine.connect() as connection:
        before = connection.execute(text("SHOW maintenance_work_mem")).scalar_one()
    store.optimize(name, 1)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW maintenance_work_mem")).scalar_one() == before
        assert connection.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).scalar_one() == 0


def test_dimension_above_what_can_be_indexed(store: PgVectorStore, engine: Engine) -> None:
    """A collection of more than 2,000 dimensions is searched exactly, and one of more than 16,000 is refused."""
    wide = Collection(f"w_{uuid4().hex[:12]}", "model", 3072)
    vector = np.ones(3072, dtype=np.float32)
    with engine.begin() as connection:
        store.open_collection(connection, wide)
        store.upsert(
            connection, wide.name, [Node("t", id=node_id("any", "a", 0, "t"), document_id="a", embedding=vector)]
        )
    assert store.optimize(wide.name, 0) is False
    assert [match.document_id for match in store.search(wide.name, vector, 1)] == ["a"]
    with engine.begin() as connection, pytest.raises(ConfigurationError, match="16001 dimensions"):
        store.open_collection(connection, Collection("too-wide", "model", 16_001))


@pytest.mark.parametrize("bad", ["", "A", "-a", "a b", 'a"b', "a;b", "a\n", "a" * 64, "nodes.x"])
def test_names_that_are_refused(store: PgVectorStore, engine: Engine, bad: str) -> None:
    """A name that is not one of a collection never becomes SQL."""
    with engine.begin() as connection, pytest.raises(ConfigurationError, match="not the name of a collection"):
        store.open_collection(connection, Collection(bad, "model", DIMENSION))
    assert store.search(bad, vectors(1)[0], 1) == []


def test_collection_of_another_store(store: PgVectorStore, engine: Engine) -> None:
    """A collection that the ledger knows in another store is refused by both names, and is not dropped."""
    elsewhere = Collection(f"e_{uuid4().hex[:12]}", "model", DIMENSION)
    with engine.begin() as connection:
        connection.execute(
            insert(collections).values(name=elsewhere.name, store="sqlite", model="model", dimension=DIMENSION)
        )
    with engine.begin() as connection, pytest.raises(ConfigurationError, match=r"'sqlite'.*'pgvector'"):
        store.open_collection(connection, elsewhere)
    store.drop(elsewhere.name)
    with engine.begin() as connection, pytest.raises(ConfigurationError, match="'sqlite'"):
        store.open_collection(connection, elsewhere)


@pytest.mark.parametrize("value", ["a\0b", "\ud800", float("nan")])
def test_metadata_that_postgres_cannot_hold(store: PgVectorStore, engine: Engine, name: str, value: object) -> None:
    """Metadata that Postgres cannot hold are the fault of a document, and nothing of the call is written."""
    written = nodes(3)
    written[1].metadata = {"key": value}
    with pytest.raises(DocumentError, match=r"(?s)cannot be stored.*metadata"), engine.begin() as connection:
        store.upsert(connection, name, written)
    assert store.count(name) == 0


@pytest.mark.parametrize("bad", ["a\0b", "\ud800"])
def test_text_that_postgres_cannot_hold(store: PgVectorStore, engine: Engine, name: str, bad: str) -> None:
    """Text that Postgres cannot hold is the fault of a document, and nothing of the call is written."""
    written = nodes(3)
    written[1].text = bad
    with pytest.raises(DocumentError, match="cannot be stored"), engine.begin() as connection:
        store.upsert(connection, name, written)
    assert store.count(name) == 0


def test_a_number_that_postgres_cannot_hold(store: PgVectorStore, engine: Engine, name: str) -> None:
    """A span beyond 32 bits is the fault of a document, and nothing of the call is written."""
    written = nodes(3)
    written[1].end = 1 << 31
    with pytest.raises(DocumentError, match="cannot be stored"), engine.begin() as connection:
        store.upsert(connection, name, written)
    assert store.count(name) == 0


def test_connection_lost_while_writing(store: PgVectorStore, engine: Engine, name: str) -> None:
    """A connection that breaks while rows stream is a service that cannot be reached, and nothing is written."""

    class Interrupting(dict[str, object]):
        """Metadata that end their own connection when they are written out."""

        def items(self):  # type: ignore[no-untyped-def]
            with engine.begin() as killer:
                killer.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            return super().items()

    written = nodes(2000)
    written[1].metadata = Interrupting(a=1)
    with pytest.raises(ServiceUnreachable, match="vector store at postgresql"), engine.begin() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        store.upsert(connection, name, written)
    assert store.count(name) == 0
