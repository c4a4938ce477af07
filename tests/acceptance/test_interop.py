"""LlamaIndex's parts on real workers, and LlamaIndex's own index over what they wrote."""

from collections.abc import Callable

import numpy as np
import pytest
from langchain_core.documents import Document as LangChainDocument
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document as LlamaIndexDocument
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from llama_index.vector_stores.postgres import PGVectorStore
from sqlalchemy import make_url, text

from orchestrator import IngestionPipeline, JobState
from orchestrator.contracts.errors import CollectionNotFound, ConfigurationError
from orchestrator.ledger.engine import begin
from tests.deployment import Deployment
from workers.embedders import get_embedder
from workers.llama_index import CollectionEmbedding, CollectionVectorStore
from workers.search import search
from workers.transformations import Embed

pytestmark = pytest.mark.acceptance

_PASSWORD = "hunter2"  # noqa: S105 - the server of the tests asks for none
TOPICS = ["walrus", "glacier", "violin", "harbour", "pepper", "comet"]


def corpus() -> list[LlamaIndexDocument]:
    return [
        LlamaIndexDocument(
            id_=f"it's {topic}",
            text=f"This chapter is about the {topic}. " * 60,
            metadata={"topic": topic, "note": "for nobody"},
            excluded_llm_metadata_keys=["note"],
        )
        for topic in TOPICS
    ]


@pytest.fixture
def store(postgres_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> PGVectorStore:
    """LlamaIndex's store in a table of the test, its address in the environment of the workers too."""

    def address(field: str, driver: str) -> str:
        url = make_url(postgres_url).set(drivername=f"postgresql+{driver}", password=_PASSWORD)
        monkeypatch.setenv(f"DOCMILL_SECRET_PGVECTORSTORE_{field}", url.render_as_string(hide_password=False))
        return url.render_as_string(hide_password=False)

    name: str = request.function.__name__[5:35]
    return PGVectorStore(
        connection_string=address("CONNECTION_STRING", "psycopg2"),
        async_connection_string=address("ASYNC_CONNECTION_STRING", "asyncpg"),
        table_name=name,
        embed_dim=256,
    )


@pytest.fixture
def pipeline(deployment: Deployment, store: PGVectorStore) -> IngestionPipeline:
    """LlamaIndex's splitter and store, with our workers between them."""
    deployment.start_worker(concurrency=2)
    return IngestionPipeline(
        store.table_name,
        [SentenceSplitter(chunk_size=64, chunk_overlap=8), Embed("wordllama")],
        vector_store=store,
        docstore_strategy="upserts_and_delete",
        connections=deployment.connections,
    )


def rows(deployment: Deployment, store: PGVectorStore) -> list[tuple[str, str]]:
    """(document id, text) of each row of LlamaIndex's table."""
    with begin(deployment.connections.engine) as connection:
        found = connection.execute(
            text(f"SELECT metadata_->>'ref_doc_id' AS document, text FROM data_{store.table_name} ORDER BY 1, 2")
        )
        return [(row.document, row.text) for row in found]


def expected(documents: list[LlamaIndexDocument]) -> list[tuple[str, str]]:
    """The same, as LlamaIndex's splitter makes them here."""
    bare = [LlamaIndexDocument(id_=document.id_, text=document.text) for document in documents]
    nodes = SentenceSplitter(chunk_size=64, chunk_overlap=8).get_nodes_from_documents(bare)
    return sorted((str(node.ref_doc_id), node.get_content()) for node in nodes)


def test_splitter_and_store_of_llama_index(
    deployment: Deployment, pipeline: IngestionPipeline, store: PGVectorStore
) -> None:
    """LlamaIndex's splitter and store run on our workers; a second run, an edit and a removal leave the exact nodes."""
    documents = corpus()
    report = deployment.wait(pipeline.enqueue(documents))
    assert report.state is JobState.SUCCEEDED
    assert report.documents.new == len(documents)
    assert rows(deployment, store) == expected(documents)
    assert report.nodes.upserted == len(expected(documents)) > 2 * len(documents)

    again = deployment.wait(pipeline.enqueue(documents))
    assert again.documents.unchanged == len(documents)
    assert again.nodes.upserted == 0

    documents[0].set_content("A walrus, once more. " * 30)
    documents[1].metadata["topic"] = "ice"
    del documents[2]
    changed = deployment.wait(pipeline.enqueue(documents))
    assert (changed.documents.changed, changed.documents.deleted) == (2, 1)
    assert rows(deployment, store) == expected(documents)
    with begin(deployment.connections.engine) as connection:
        topics = connection.execute(text(f"SELECT DISTINCT metadata_->>'topic' FROM data_{store.table_name}")).scalars()
        assert set(topics) == {"walrus", "ice", *TOPICS[3:]}


def test_an_index_of_llama_index_reads_its_own_store(
    deployment: Deployment, pipeline: IngestionPipeline, store: PGVectorStore
) -> None:
    """A VectorStoreIndex over LlamaIndex's store finds what our workers wrote, with its document and metadata."""
    deployment.wait(pipeline.enqueue(corpus()))
    retriever = VectorStoreIndex.from_vector_store(store, embed_model=CollectionEmbedding("wordllama")).as_retriever(
        similarity_top_k=2
    )
    for topic in TOPICS:
        best = retriever.retrieve(f"Which chapter is about the {topic}?")[0]
        assert (best.node.ref_doc_id, best.node.metadata["topic"]) == (f"it's {topic}", topic)
        assert "nobody" not in best.node.get_content(metadata_mode="llm")  # type: ignore[arg-type]  # a str enum
    filtered = VectorStoreIndex.from_vector_store(store, embed_model=CollectionEmbedding("wordllama")).as_retriever(
        filters=MetadataFilters(filters=[MetadataFilter(key="topic", value="comet")])
    )
    assert {found.node.ref_doc_id for found in filtered.retrieve("the walrus")} == {"it's comet"}
    match = search(
        deployment.connections.engine,
        deployment.settings,
        "the violin",
        collection=pipeline.spec.collection,
        k=1,
        vector_store=pipeline.spec.vector_store,
    )[0]
    assert (match.document_id, match.metadata) == ("it's violin", {"topic": "violin", "note": "for nobody"})


def test_an_index_of_llama_index_reads_pgvector(deployment: Deployment) -> None:
    """A VectorStoreIndex over a collection in docmill's own pgvector finds the right document first."""
    deployment.start_worker()
    pipeline = IngestionPipeline(
        "own",
        [SentenceSplitter(chunk_size=64, chunk_overlap=8), Embed("wordllama")],
        connections=deployment.connections,
    )
    documents = [
        LangChainDocument(page_content=f"This page is about the {topic}. " * 20, metadata={"source": f"{topic}.md"})
        for topic in TOPICS
    ]
    assert deployment.wait(pipeline.enqueue(documents)).documents.new == len(TOPICS)
    collection = CollectionVectorStore.of(deployment.connections.engine, deployment.settings, "own")
    index = VectorStoreIndex.from_vector_store(collection, embed_model=collection.embedding)
    for topic in TOPICS:
        [best] = index.as_retriever(similarity_top_k=1).retrieve(f"Which page is about the {topic}?")
        assert best.node.ref_doc_id == best.node.metadata["source"] == f"{topic}.md"
        assert best.score is not None
        assert 0 < best.score <= 1
    with pytest.raises(ConfigurationError, match="takes no filters"):
        index.as_retriever(filters=MetadataFilters(filters=[MetadataFilter(key="source", value="comet.md")])).retrieve(
            "comet"
        )
    with pytest.raises(ConfigurationError, match="write to it by IngestionPipeline"):
        index.insert(LlamaIndexDocument(text="x"))
    with pytest.raises(CollectionNotFound):
        CollectionVectorStore.of(deployment.connections.engine, deployment.settings, "absent")


def test_an_embedding_of_llama_index(deploy: Callable[..., Deployment]) -> None:
    """A LlamaIndex embedding gives the vectors, is asked for by its name when searching, and another one is refused."""
    deployment = deploy()
    deployment.start_worker()

    def pipeline(dimension: int) -> IngestionPipeline:
        steps = [SentenceSplitter(chunk_size=64, chunk_overlap=8), MockEmbedding(embed_dim=dimension)]
        return IngestionPipeline("mock", steps, connections=deployment.connections)

    report = deployment.wait(pipeline(5).enqueue(corpus()))
    assert report.state is JobState.SUCCEEDED
    assert report.tokens.embedding > 0
    held = deployment.store.describe("mock")
    assert held is not None
    assert (held.model, held.dimension) == (pipeline(5).spec.embedder, 5)
    np.testing.assert_allclose(get_embedder(held.model).embed(["x"]), 5**-0.5)
    assert len(search(deployment.connections.engine, deployment.settings, "x", collection="mock", k=3)) == 3
    other = deployment.wait(pipeline(6).enqueue(corpus()))
    assert other.state is JobState.FAILED
    assert "5 dimensions" in str(other.error)
