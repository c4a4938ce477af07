"""The main job, on real servers with real workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import Document, FileReader, Job, JobState
from orchestrator.contracts.errors import EmptySource
from orchestrator.ledger import jobs
from orchestrator.ledger.engine import begin
from tests.deployment import Deployment
from workers.search import search

pytestmark = pytest.mark.acceptance


def corpus(count: int) -> list[Document]:
    return [
        Document(id=f"doc{number}", text=f"The {number}th document tells of topic{number}. " * 40)
        for number in range(count)
    ]


def pages(texts: list[str]) -> list[Document]:
    return [Document(id=f"page{number}", text=text) for number, text in enumerate(texts)]


def write_files(folder: Path, count: int) -> None:
    for number in range(count):
        path = folder / f"part{number % 3}" / f"page{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Page {number}\n\nThis page tells of subject{number} alone.\n" * 20)


def test_documents_become_nodes_and_a_second_run_pays_nothing(deployment: Deployment) -> None:
    """Every document is ingested once, its nodes are counted, and running again embeds nothing."""
    deployment.start_worker(concurrency=2)
    pipeline = deployment.pipeline("first")
    report = deployment.wait(pipeline.enqueue(corpus(60)))
    assert report.state is JobState.SUCCEEDED
    assert report.documents.seen == report.documents.new == 60
    assert report.nodes.upserted == len(deployment.nodes("first")) == len(set(deployment.nodes("first")))
    assert report.batches.total > 5
    assert report.tokens.embedding > 0

    again = deployment.wait(pipeline.enqueue(corpus(60)))
    assert again.state is JobState.SUCCEEDED
    assert again.documents.unchanged == 60
    assert again.tokens.embedding == again.nodes.upserted == again.batches.total == 0


def test_one_edit_one_removal_one_addition_are_exactly_what_is_reported(deployment: Deployment, tmp_path: Path) -> None:
    """With upserts_and_delete a folder's edits, removals and additions are reported exactly, and search agrees."""
    folder = tmp_path / "docs"
    write_files(folder, 40)
    deployment.start_worker(concurrency=2)
    pipeline = deployment.pipeline("folder", strategy="upserts_and_delete")
    assert deployment.wait(pipeline.enqueue(FileReader(folder))).documents.new == 40

    (folder / "part0" / "page3.md").write_text("# Page 3\n\nNow it speaks of zebras.\n")
    (folder / "part1" / "page4.md").unlink()
    (folder / "added.md").write_text("# Added\n\nA page about walruses.\n")
    report = deployment.wait(pipeline.enqueue(FileReader(folder)))
    counts = report.documents
    assert (counts.new, counts.changed, counts.deleted, counts.unchanged) == (1, 1, 1, 38)

    def first(query: str) -> str:
        found = search(deployment.connections.engine, deployment.settings, query, collection="folder", k=1)
        return found[0].document_id

    assert first("zebras") == "part0/page3.md"
    assert first("walruses") == "added.md"
    assert "part1/page4.md" not in {document for document, _ in deployment.nodes("folder")}
    assert deployment.documents("folder") == {document for document, _ in deployment.nodes("folder")}


def test_most_of_a_collection_cannot_vanish_without_a_yes(deployment: Deployment) -> None:
    """A source that lost most of its documents deletes nothing, unless that is asked for."""
    deployment.start_worker()
    pipeline = deployment.pipeline("guarded", strategy="upserts_and_delete")
    deployment.wait(pipeline.enqueue(corpus(30)))

    refused = deployment.wait(pipeline.enqueue(corpus(5)))
    assert refused.state is JobState.SUCCEEDED_WITH_FAILURES
    assert refused.documents.deleted == 0
    assert len(deployment.documents("guarded")) == 30

    allowed = deployment.wait(pipeline.enqueue(corpus(5), allow_mass_delete=True))
    assert allowed.state is JobState.SUCCEEDED
    assert allowed.documents.deleted == 25
    assert deployment.documents("guarded") == {document for document, _ in deployment.nodes("guarded")}
    with pytest.raises(EmptySource):
        pipeline.enqueue([])


def test_a_source_that_breaks_deletes_nothing(deployment: Deployment) -> None:
    """A source that fails half-way raises its own error; what was read is ingested, and nothing is deleted."""
    deployment.start_worker()
    pipeline = deployment.pipeline("broken", strategy="upserts_and_delete")
    deployment.wait(pipeline.enqueue(corpus(10)))

    def breaking() -> Iterator[Document]:
        for number in range(5):
            yield Document(id=f"before the break {number}", text=f"Text {number} was read.")
        raise OSError("the share is gone")

    with pytest.raises(OSError, match="the share is gone"):
        pipeline.enqueue(breaking())
    with begin(deployment.connections.engine) as connection:
        job = Job(deployment.connections, jobs.recent(connection, 1)[0].id)
    report = deployment.wait(job)
    assert (report.state, report.documents.seen, report.documents.new) == (JobState.FAILED, 5, 5)
    assert len(deployment.documents("broken")) == 15


def test_the_sqlite_store_takes_the_same_job(deployment: Deployment) -> None:
    """Where vectors live outside of the ledger's database, the same job gives the same nodes."""
    deployment.start_worker(concurrency=2)
    inside = deployment.wait(deployment.pipeline("inside").enqueue(corpus(30)))
    outside = deployment.wait(deployment.pipeline("outside", vector_store="sqlite").enqueue(corpus(30)))
    assert inside.nodes == outside.nodes
    found = search(
        deployment.connections.engine,
        deployment.settings,
        "topic7",
        collection="outside",
        k=1,
        vector_store="sqlite",
    )
    assert found[0].document_id == "doc7"


def test_an_edited_document_costs_only_its_changed_nodes(deployment: Deployment) -> None:
    """Of a document with one edited paragraph only that paragraph's nodes are embedded again."""
    deployment.start_worker()
    pipeline = deployment.pipeline("edited")
    paragraphs = [f"Paragraph {number} is about item{number}. " * 12 for number in range(20)]
    first = deployment.wait(pipeline.enqueue([Document(id="one", text="\n\n".join(paragraphs))]))
    paragraphs[10] = "This paragraph is a new one. " * 12
    second = deployment.wait(pipeline.enqueue([Document(id="one", text="\n\n".join(paragraphs))]))
    assert second.documents.changed == 1
    assert 0 < second.tokens.embedding < first.tokens.embedding / 4
    assert second.nodes.upserted == len(deployment.nodes("edited"))


def test_documents_that_two_jobs_find_new_have_the_nodes_of_the_later_alone(deployment: Deployment) -> None:
    """Two jobs enqueue the same new documents with other texts: nodes of the later alone stay, whichever ends first."""
    pipeline = deployment.pipeline("twice")
    texts = [[f"{word} {number} stands here. " * 150 for number in range(30)] for word in ("Earlier", "Later")]
    jobs_at_once = [pipeline.enqueue(pages(said)) for said in texts]
    deployment.start_worker(concurrency=2)
    for job in jobs_at_once:
        assert deployment.wait(job).state is JobState.SUCCEEDED
    later = deployment.wait(deployment.pipeline("alone").enqueue(pages(texts[1])))
    assert len(deployment.nodes("twice")) == later.nodes.upserted
    found = search(deployment.connections.engine, deployment.settings, "Earlier", collection="twice", k=1000)
    assert {match.text.split()[0] for match in found} == {"Later"}


def test_another_embedder_for_a_collection_is_refused_before_it_is_paid_for(deployment: Deployment) -> None:
    """A collection's vectors are of one model: another one ends the job with an error that names both."""
    worker = deployment.start_worker()
    deployment.wait(deployment.pipeline("mixed").enqueue(corpus(20)))
    worker.stop()  # or it might end the job while the last documents are still being enqueued
    job = deployment.pipeline("mixed", embedder="hashed/64").enqueue(corpus(20))
    deployment.start_worker()
    report = deployment.wait(job)
    assert report.state is JobState.FAILED
    assert "hashed/256" in str(report.error)
    assert "hashed/64" in str(report.error)
    assert report.tokens.embedding == 0
    assert report.documents.failed == 20
