"""What every vector store promises, held against each of them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine, create_engine

from orchestrator.contracts.errors import CollectionMismatch, ConfigurationError, UnknownName
from orchestrator.contracts.nodes import Node, node_id
from orchestrator.ledger.tables import collections
from workers.vector_stores import Collection, VectorStore, open_vector_store

Vector = Sequence[float]


@dataclass(frozen=True)
class Held:
    """A store with one collection, written to as a commit does: within a transaction on the ledger."""

    store: VectorStore
    engine: Engine
    name: str

    def open(self, model: str = "model", dimension: int = 3, name: str | None = None) -> None:
        with self.engine.begin() as connection:
            self.store.open_collection(connection, Collection(name or self.name, model, dimension))

    def upsert(self, *nodes: Node, new: bool = False) -> None:
        with self.engine.begin() as connection:
            self.store.upsert(connection, self.name, nodes, new=new)

    def remove_stale(self, keep: dict[str, list[str]]) -> int:
        with self.engine.begin() as connection:
            return self.store.remove_stale(connection, self.name, keep)

    def found(self, vector: Vector, k: int = 10) -> list[str]:
        return [match.id for match in self.store.search(self.name, floats(vector), k)]

    def ids(self) -> list[tuple[str, str]]:
        return list(self.store.node_ids(self.name))


def floats(vector: Vector) -> NDArray[np.float32]:
    return np.array(vector, dtype=np.float32)


def node(document: str, position: int = 0, text: str = "text", vector: Vector = (1, 0, 0)) -> Node:
    return Node(
        text=text,
        metadata={"source": document},
        start=0,
        end=len(text),
        token_count=1,
        embedding=floats(vector),
        id=node_id("any", document, position, text),
        document_id=document,
        position=position,
    )


@pytest.fixture(scope="module", params=["memory", "sqlite", "pgvector"])
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[VectorStore, Engine]]:
    """Each store, with the engine of a ledger."""
    name: str = request.param
    folder: Path = tmp_path_factory.mktemp(name)
    url: str = (
        request.getfixturevalue("postgres_url") if name == "pgvector" else f"sqlite:///{folder / 'ledger.sqlite'}"
    )
    engine = create_engine(url)
    collections.create(engine)
    store = open_vector_store(name, engine, folder / "vectors" / "vectors.sqlite")
    yield store, engine
    store.close()
    engine.dispose()


@pytest.fixture
def held(opened: tuple[VectorStore, Engine]) -> Held:
    """A new, open collection of 3 dimensions."""
    store, engine = opened
    held = Held(store, engine, f"c-{uuid4().hex}")
    held.open()
    return held


def test_open_twice(held: Held) -> None:
    """Opening a collection again, as it is, changes nothing."""
    held.upsert(node("a"))
    held.open()
    assert held.store.describe(held.name) == Collection(held.name, "model", 3)
    assert held.store.count(held.name) == 1


def test_open_at_once(held: Held) -> None:
    """Many threads may open one new collection at once, and one is made."""
    name = f"new-{uuid4().hex}"
    with ThreadPoolExecutor(8) as threads:
        for opening in [threads.submit(held.open, name=name) for _ in range(16)]:
            opening.result()
    assert held.store.describe(name) == Collection(name, "model", 3)


def test_other_model(held: Held) -> None:
    """Opening a collection with another model is refused, and the message names both."""
    with pytest.raises(CollectionMismatch, match=r"'model' with 3 dimensions.*'another' with 3 dimensions"):
        held.open(model="another")


def test_other_dimension(held: Held) -> None:
    """Opening a collection with another dimension is refused, and the message names both."""
    with pytest.raises(CollectionMismatch, match=r"'model' with 3 dimensions.*'model' with 4 dimensions"):
        held.open(dimension=4)


def test_vector_of_other_dimension(held: Held) -> None:
    """A vector of another dimension is refused, on writing and on searching, and nothing of its call is written."""
    with pytest.raises(CollectionMismatch, match="4 dimensions"):
        held.upsert(node("a"), node("b", vector=(1, 0, 0, 0)))
    with pytest.raises(CollectionMismatch, match="2 dimensions"):
        held.found((1, 0))
    assert held.store.count(held.name) == 0


@pytest.mark.parametrize("vector", [None, (1, float("nan"), 0), (float("inf"), 0, 0)])
def test_vector_that_is_none(held: Held, vector: Vector | None) -> None:
    """A node without a vector, or with one that is not finite, is refused by the name of its document."""
    bad = node("the-document", vector=vector or (1, 0, 0))
    if vector is None:
        bad.embedding = None
    with pytest.raises(ConfigurationError, match="the-document"):
        held.upsert(bad)


def test_unknown_collection(held: Held) -> None:
    """A collection that does not exist is empty to a reader and refused to a writer."""
    unknown = Held(held.store, held.engine, "unknown")
    assert unknown.store.describe("unknown") is None
    assert unknown.store.count("unknown") == 0
    assert unknown.found((1, 0, 0)) == []
    assert unknown.ids() == []
    assert unknown.remove_stale({"a": []}) == 0
    assert unknown.store.optimize("unknown", 0) is False
    unknown.store.drop("unknown")
    with pytest.raises(ConfigurationError, match="'unknown' does not exist"):
        unknown.upsert(node("a"))


def test_upsert_replaces(held: Held) -> None:
    """A node written again under its id is replaced, whatever of it has changed."""
    held.upsert(node("a"), node("b"))
    again = node("a", vector=(0, 1, 0))
    again.metadata, again.position, again.token_count = {"new": True}, 7, 9
    held.upsert(again)
    assert held.store.count(held.name) == 2
    [match] = held.store.search(held.name, floats((0, 1, 0)), 1)
    assert (match.id, match.metadata, match.position) == (again.id, {"new": True}, 7)
    assert match.score == pytest.approx(1.0)


def test_upsert_of_what_is_not_new(held: Held) -> None:
    """Nodes said to be new are written; those that are there all the same are replaced, and others beside them kept."""
    held.upsert(node("a"), node("b"), new=True)
    held.upsert(node("a", vector=(0, 1, 0)), node("c"), new=True)
    assert {document for document, _ in held.ids()} == {"a", "b", "c"}
    assert held.found((0, 1, 0), k=1) == [node("a").id]


def test_same_id_twice_in_a_call(held: Held) -> None:
    """Of two nodes with one id in a call the last is kept."""
    held.upsert(node("a", vector=(1, 0, 0)), node("b"), node("a", vector=(0, 0, 1)))
    assert held.store.count(held.name) == 2
    assert held.found((0, 0, 1), k=1) == [node("a").id]


def test_upsert_nothing(held: Held) -> None:
    """Writing no nodes, and removing from no documents, is no error."""
    held.upsert()
    assert held.remove_stale({}) == 0
    assert held.store.count(held.name) == 0


def test_search_order(held: Held) -> None:
    """A search gives the nearest first, by cosine whatever the lengths, with the cosine as score."""
    held.upsert(
        node("far", vector=(-1, 0, 0)), node("near", vector=(4, 3, 0)), node("equal", vector=(9, 0, 0)),
        node("aside", vector=(0, 0, 0.1)),
    )  # fmt: skip
    matches = held.store.search(held.name, floats((2, 0, 0)), 10)
    assert [match.document_id for match in matches] == ["equal", "near", "aside", "far"]
    assert [match.score for match in matches] == pytest.approx([1.0, 0.8, 0.0, -1.0], abs=1e-6)
    assert held.found((2, 0, 0), k=2) == [match.id for match in matches[:2]]


def test_search_ties(held: Held) -> None:
    """Equal scores are ordered by node id, also where k cuts through them."""
    nodes = [node(f"document-{number}", vector=(0.1, 0.7, 0.3)) for number in range(50)]
    held.upsert(*nodes, node("nearer", vector=(0, 1, 0)))
    ids = sorted(node.id for node in nodes)
    assert held.found((0, 1, 0), k=11) == [node("nearer").id, *ids[:10]]


def test_search_k(held: Held) -> None:
    """A k above the count gives all nodes, and a k below 1 none."""
    held.upsert(node("a"), node("b"))
    assert len(held.found((1, 0, 0), k=5000)) == 2
    assert held.found((1, 0, 0), k=0) == []


def test_search_exact(held: Held) -> None:
    """Among thousands of nodes a search finds the nearest that a full sort finds."""
    matrix = np.random.default_rng(7).standard_normal((5000, 3)).astype(np.float32)
    nodes = [node(str(number), vector=row) for number, row in enumerate(matrix.tolist())]
    held.upsert(*nodes)
    query = floats((0.3, -0.5, 0.8))
    cosines = (matrix @ query) / np.linalg.norm(matrix, axis=1)
    expected = [nodes[index].id for index in np.argsort(-cosines)[:20]]
    assert held.found(query.tolist(), k=20) == expected


def test_zero_vectors(held: Held) -> None:
    """A vector of zeros is kept, and is near nothing: no search finds it, and a search by it finds nothing."""
    held.upsert(node("empty", vector=(0, 0, 0)), node("a"))
    assert held.store.count(held.name) == 2
    assert held.found((1, 0, 0)) == [node("a").id]
    assert held.found((0, 0, 0)) == []


def test_remove_stale(held: Held) -> None:
    """Of the documents named, what is not kept goes; what is kept, and every other document, stays."""
    a, b, c = [[node(name, position) for position in range(3)] for name in "abc"]
    held.upsert(*a, *b, *c)
    removed = held.remove_stale({"a": [a[0].id, a[2].id], "b": [], "absent": []})
    assert removed == 4
    assert held.ids() == sorted((kept.document_id, kept.id) for kept in (a[0], a[2], *c))
    assert held.remove_stale({"a": [a[0].id, a[2].id], "b": []}) == 0


def test_remove_stale_is_bound_to_its_collection(held: Held) -> None:
    """Removing from one collection leaves the same document in another."""
    other = Held(held.store, held.engine, f"o-{uuid4().hex}")
    other.open()
    held.upsert(node("a"))
    other.upsert(node("a"))
    assert held.remove_stale({"a": []}) == 1
    assert other.ids() == [("a", node("a").id)]


@pytest.mark.parametrize(
    "text",
    [
        "naïve — Ω 漢字 🜁 \u202e",
        "'; DROP TABLE nodes; -- \" \\ \\u0000 :name %s $1 {x}",
        "a\tb\r\n\x01\x7f",
        "",
        "x" * 3_000_000,
    ],
    ids=["unicode", "quotes", "controls", "empty", "huge"],
)
def test_text_round_trip(held: Held, text: str) -> None:
    """What is written is read, character by character: text, document id and metadata."""
    name = text[:200] or "document"
    written = node(name, text=text)
    written.metadata = {"nested": {"list": [1, 2.5, None, True, {"k": name}]}, name: name, "": []}
    held.upsert(written)
    [match] = held.store.search(held.name, floats((1, 0, 0)), 1)
    assert (match.text, match.document_id, match.metadata) == (text, name, written.metadata)
    assert held.ids() == [(name, written.id)]


def test_what_is_changed_after_writing(held: Held) -> None:
    """What the caller changes in its nodes after writing them, or in what was found, changes nothing held."""
    written = node("a")
    held.upsert(written)
    written.metadata["source"] = "changed"
    held.store.search(held.name, floats((1, 0, 0)), 1)[0].metadata["source"] = "changed"
    assert held.store.search(held.name, floats((1, 0, 0)), 1)[0].metadata == {"source": "a"}


def test_node_ids(held: Held) -> None:
    """The ids come ordered by document, as Python orders text, then by node."""
    names = ["b", "B", "a", "ä", "a-1", "a1", "A", "漢", "\U0001f701", "z", "\uffee", ""]
    nodes = [node(name, position) for name in names for position in range(5)]
    held.upsert(*nodes)
    assert held.ids() == sorted((node.document_id, node.id) for node in nodes)


def test_node_ids_while_writing(held: Held) -> None:
    """Reading the ids does not keep others from writing, even if it is given up half-way."""
    held.upsert(*[node(str(number)) for number in range(100)])
    reading = held.store.node_ids(held.name)
    next(reading)
    held.upsert(node("new"))
    assert held.remove_stale({"1": []}) == 1
    del reading
    assert held.store.count(held.name) == 100


def test_drop(held: Held) -> None:
    """A dropped collection is gone with its nodes, and its name is free for another model."""
    held.upsert(node("a"))
    held.store.drop(held.name)
    assert held.store.describe(held.name) is None
    assert held.ids() == []
    held.open(model="another", dimension=2)
    assert held.store.count(held.name) == 0
    assert held.store.describe(held.name) == Collection(held.name, "another", 2)


@pytest.mark.parametrize(
    "pair", [("x", "x_pkey"), ("x", "x-document"), ("y" * 63, "y" * 62), ("z" * 62 + "1", "z" * 62 + "2")]
)
def test_names_that_are_alike(held: Held, pair: tuple[str, str]) -> None:
    """Collections whose names are alike, or long, share nothing."""
    first, second = (Held(held.store, held.engine, name) for name in pair)
    for number, alike in enumerate((first, second)):
        alike.open()
        alike.upsert(node(f"document-{number}"))
    assert [document for document, _ in first.ids()] == ["document-0"]
    assert [document for document, _ in second.ids()] == ["document-1"]
    first.store.drop(first.name)
    assert second.store.count(second.name) == 1
    second.store.drop(second.name)


def test_writers_of_the_same_nodes(held: Held) -> None:
    """Threads that write and remove the same nodes at once, in any order, all end, and leave each node once."""
    nodes = [node(f"document-{number % 20}", number // 20) for number in range(400)]
    keep: dict[str, list[str]] = {}
    for each in nodes:
        keep.setdefault(each.document_id, []).append(each.id)

    def write(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(nodes))
        for _ in range(3):
            with held.engine.begin() as connection:
                held.store.upsert(connection, held.name, [node_with(nodes[index], seed) for index in order])
                held.store.remove_stale(connection, held.name, keep)

    def node_with(original: Node, seed: int) -> Node:
        changed = node(original.document_id, original.position)
        changed.metadata = {"writer": seed}
        return changed

    with ThreadPoolExecutor(4) as threads:
        for writing in [threads.submit(write, seed) for seed in range(4)]:
            writing.result()
    assert held.ids() == sorted((each.document_id, each.id) for each in nodes)


def test_unknown_store(tmp_path: Path) -> None:
    """A store that nobody knows is refused with the names of those that are known."""
    with pytest.raises(UnknownName, match=r"'chroma'; known here: .*memory, pgvector, sqlite"):
        open_vector_store("chroma", create_engine("sqlite://"), tmp_path)


def test_pgvector_without_postgres(tmp_path: Path) -> None:
    """pgvector on a ledger that is no Postgres is refused with what to use instead."""
    with pytest.raises(ConfigurationError, match="DOCMILL_VECTOR_STORE=sqlite"):
        open_vector_store("pgvector", create_engine("sqlite://"), tmp_path)
