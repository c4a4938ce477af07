"""The entry points of a pipeline, on real servers with real workers: what goes in, and what comes out."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Document, IngestionPipeline, Job, JobState
from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.nodes import Node
from orchestrator.ledger.reports import Progress
from tests.deployment import Deployment
from tests.transformations import Scribbling, Slow
from workers.transformations import Embed, SentenceSplitter

pytestmark = pytest.mark.acceptance

_SPLITTER = SentenceSplitter(chunk_size=64, chunk_overlap=8)


def _document(id: str, subject: str | None = None) -> Document:
    return Document(id=id, text=f"This is a long story of {subject or id}. " * 30, metadata={"of": id})


class _Reader:
    """What a LlamaIndex reader looks like."""

    def load_data(self) -> list[Document]:
        return [_document("read")]


def _pipeline(staffed: Deployment, name: str, **arguments: Any) -> IngestionPipeline:
    steps = arguments.pop("transformations", [_SPLITTER, Embed("hashed")])
    return IngestionPipeline(name, steps, connections=staffed.connections, **arguments)


def test_documents_of_pipeline_readers_and_call_are_one_job(staffed: Deployment) -> None:
    """The pipeline's documents, its readers' and the call's are ingested together; of one id the call's wins."""
    pipeline = _pipeline(
        staffed,
        "combined",
        documents=[_document("kept"), _document("both", "the pipeline")],
        readers=[_Reader(), iter([_document("iterated")])],
    )
    report = pipeline.run([_document("both", "the call")], timeout=60)
    assert (report.documents.seen, report.documents.new, report.documents.duplicate) == (5, 4, 1)
    assert staffed.documents("combined") == {"kept", "both", "read", "iterated"}
    again = pipeline.run(timeout=60)  # the iterator is spent; what the pipeline says of "both" is said last now
    assert (again.documents.unchanged, again.documents.changed) == (2, 1)


def test_nodes_handed_in_are_known_by_their_parents(staffed: Deployment) -> None:
    """Nodes split already are stored as they are, unchanged while their parent's are, and replaced together."""
    pipeline = _pipeline(staffed, "split", transformations=[Embed("hashed")])
    nodes = [
        Node(text=f"Part {n} of {parent}.", document_id=parent, metadata={"part": n}, start=n, end=n + 9)
        for parent in ("a", "b")
        for n in range(3)
    ]
    report = pipeline.run(nodes=nodes, timeout=60)
    assert (report.documents.new, report.nodes.upserted) == (2, 6)
    assert len(staffed.nodes("split")) == 6
    assert pipeline.run(nodes=iter(nodes), timeout=60).documents.unchanged == 2

    edited = pipeline.run(nodes=[*nodes[:2], *nodes[3:]], timeout=60)
    assert (edited.documents.changed, edited.documents.unchanged) == (1, 1)
    assert [document for document, _ in staffed.nodes("split")] == ["a"] * 2 + ["b"] * 3


def test_without_a_vector_store_the_nodes_are_the_product(staffed: Deployment) -> None:
    """A job without a vector store hands out its nodes, whole and in order, says so, and still dedupes."""
    documents = [_document(f"doc{n}") for n in range(40)]
    bare = _pipeline(staffed, "product", transformations=[_SPLITTER])
    job = bare.enqueue([*documents, _document("doc7", "another end")])
    nodes = list(job.nodes(60))
    report = job.report
    assert (report.nodes.produced, report.nodes.upserted) == (len(nodes), 0)
    order = list(dict.fromkeys(node.document_id for node in nodes))
    assert order == [f"doc{n}" for n in range(40) if n != 7] + ["doc7"]
    assert all("another end" in node.text for node in nodes if node.document_id == "doc7")
    first, second = nodes[:2]
    assert (first.position, first.previous_id, first.next_id) == (0, None, second.id)
    assert (first.metadata, first.start, first.embedding) == ({"of": "doc0"}, 0, None)
    assert 0 < first.token_count <= 64
    assert list(job.nodes()) == nodes

    assert bare.run(documents, timeout=60).documents.unchanged == 39
    embedding = _pipeline(staffed, "product", vector_store=None)
    made = embedding.enqueue(documents[:3])
    assert [node.embedding is not None for node in made.nodes(60)] == [True] * made.report.nodes.produced
    assert made.report.documents.changed == 3
    assert job.forget_nodes() == 40
    assert list(Job(staffed.connections, job.id).nodes()) == []


def test_a_document_is_done_only_for_the_store_it_went_to(staffed: Deployment) -> None:
    """A document whose nodes were a product is changed for a vector store, where they are searched, not streamed."""
    _pipeline(staffed, "stored later", vector_store=None).run([_document("a")], timeout=60)
    job = _pipeline(staffed, "stored later").enqueue([_document("a")])
    assert staffed.wait(job).documents.changed == 1
    assert {document for document, _ in staffed.nodes("stored-later")} == {"a"}
    with pytest.raises(ConfigurationError, match=r"in the vector store 'pgvector', collection 'stored-later'"):
        job.nodes()


def test_the_cache_is_chosen_by_the_call(staffed: Deployment) -> None:
    """A call's cache_collection and disable_cache stand in place of the pipeline's, for that job alone."""

    def paid(collection: str, **options: Any) -> int:
        pipeline = _pipeline(staffed, collection, cache_collection="mine")
        return pipeline.run([_document("a")], timeout=60, **options).tokens.embedding

    assert paid("first") > 0
    assert paid("second") == 0
    assert paid("third", cache_collection="other") > 0
    assert paid("fourth", disable_cache=True) > 0
    disabled = _pipeline(staffed, "fifth", cache_collection="mine", disable_cache=True)
    assert disabled.run([_document("a")], timeout=60, disable_cache=False).tokens.embedding == 0


def test_a_document_is_known_as_it_came_in(staffed: Deployment) -> None:
    """What transformations make of text and metadata in place is no change: the document is the one handed in."""
    pipeline = _pipeline(staffed, "scribbled", transformations=[Scribbling(), _SPLITTER, Embed("hashed")])
    assert staffed.wait(pipeline.enqueue([_document("a"), _document("b")])).documents.new == 2
    report = staffed.wait(pipeline.enqueue([_document("a"), _document("b")]))
    assert (report.documents.unchanged, report.nodes.upserted) == (2, 0)


def test_a_loaded_pipeline_finds_what_the_persisted_one_left(staffed: Deployment, tmp_path: Path) -> None:
    """A pipeline that is loaded knows the documents and finds the cache of the one persisted; neither is a file."""
    found = [_document(id) for id in "ab"]
    made = _pipeline(staffed, "persisted", cache_collection="persisted")
    assert staffed.wait(made.enqueue(found)).tokens.embedding > 0
    assert [path.name for path in (made.persist(tmp_path).parent).iterdir()] == ["pipeline.json"]

    loaded = IngestionPipeline.load(tmp_path, connections=staffed.connections)
    assert staffed.wait(loaded.enqueue(found)).documents.unchanged == 2
    loaded.spec = loaded.spec.model_copy(update={"collection": "persisted-elsewhere"})
    report = staffed.wait(loaded.enqueue(found))
    assert (report.documents.new, report.tokens.embedding, report.cache.misses) == (2, 0, 0)


def test_arun_leaves_the_loop_free(staffed: Deployment) -> None:
    """While `arun` reads a slow source and waits, other tasks run; a callback hears of the job's progress."""
    heard: list[Progress] = []

    def slow_source() -> Iterator[Document]:
        for n in range(4):
            time.sleep(0.1)
            yield _document(f"doc{n}")

    async def main() -> tuple[int, JobState]:
        pipeline = _pipeline(staffed, "async", transformations=[Slow(seconds=0.2), _SPLITTER, Embed("hashed")])
        run = asyncio.create_task(pipeline.arun(slow_source(), on_progress=heard.append, timeout=60))
        ticks = 0
        while not run.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, (await run).state

    ticks, state = asyncio.run(main())
    assert state is JobState.SUCCEEDED
    assert ticks >= 20  # of 40 that fit into the reading alone
    assert heard[-1].state is JobState.SUCCEEDED


def test_progress_is_shown_where_it_is_asked_for(staffed: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """`show_progress` writes to stderr alone, a callback hears the same, and without either nothing is written."""
    heard: list[Progress] = []
    pipeline = _pipeline(staffed, "shown", transformations=[Slow(seconds=0.5), _SPLITTER, Embed("hashed")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.progress_display._LINE_EVERY_SECONDS", 0.0)
        pipeline.run([_document("a")], show_progress=True, on_progress=heard.append, timeout=60)
        output = capsys.readouterr()
        assert "of 1 documents" in output.err
        assert output.out == ""
        assert heard
        pipeline.run([_document("a")], timeout=60)
    assert capsys.readouterr().err == ""
