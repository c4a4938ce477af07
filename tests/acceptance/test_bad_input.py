"""Bad input costs itself alone: each gets a failures row with stage and reason, and the rest of the job goes on."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from orchestrator import Document, FileReader, IngestionPipeline, JobState
from orchestrator.contracts.errors import ServiceUnreachable
from orchestrator.contracts.report import BatchState
from orchestrator.ledger.engine import begin
from orchestrator.ledger.tables import collections
from tests.deployment import Deployment, wait_for
from tests.transformations import Forgetful, Slow
from workers.search import search
from workers.transformations import Embed, SentenceSplitter

pytestmark = pytest.mark.acceptance

_BROKEN_PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\nnothing more"
_ENCRYPTED_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj\n"
    b"4 0 obj<</Filter/Standard/V 1/R 2/P -4/O(" + b"o" * 32 + b")/U(" + b"u" * 32 + b")>>endobj\n"
    b"trailer<</Root 1 0 R/Encrypt 4 0 R/ID[(aaaaaaaaaaaaaaaa)(aaaaaaaaaaaaaaaa)]/Size 5>>\n%%EOF"
)
_FILES = {
    "empty.txt": (b"", "read", "empty"),
    "spaces.txt": (b" \n\t \r\n" * 50, "read", "white space"),
    "broken.pdf": (_BROKEN_PDF, "parse", "PDF"),
    "encrypted.pdf": (_ENCRYPTED_PDF, "parse", "PDF"),
    "broken.docx": (b"PK\x03\x04" + bytes(range(256)) * 8, "parse", ""),
    "binary.bin": (bytes(range(256)) * 64, "parse", "binary"),
}


def test_bad_files_become_failures_and_good_ones_nodes(deployment: Deployment, tmp_path: Path) -> None:
    """Of a folder with every kind of bad file, each is a failure with stage and reason; the others are ingested."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, (content, _, _) in _FILES.items():
        (folder / name).write_bytes(content)
    (folder / "good.md").write_text("# Good\n\nThis page is fine.\n")
    (folder / "latin.txt").write_bytes("Le café est fermé à cause de la grève générale des serveurs.".encode("latin-1"))
    (folder / "nul.txt").write_bytes(b"Before the zero\x00after the zero.")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    deployment.start_worker()
    job = deployment.pipeline("bad-files").enqueue(FileReader(folder))
    report = deployment.wait(job)
    found = {failure.document_id: failure for failure in job.failures()}

    assert report.state is JobState.SUCCEEDED_WITH_FAILURES
    assert set(found) == {*_FILES, "loop", "gone.txt"}
    for name, (_, stage, reason) in _FILES.items():
        assert (found[name].stage, reason in found[name].message) == (stage, True), found[name]
    assert found["loop"].stage == found["gone.txt"].stage == "read"
    assert deployment.documents("bad-files") == {"good.md", "latin.txt", "nul.txt"}
    assert report.documents.seen == report.documents.new + report.documents.failed == 11


def test_bad_documents_become_failures_and_good_ones_nodes(deployment: Deployment, tmp_path: Path) -> None:
    """Ids, metadata and addresses that cannot be stored or read are failures; of one id twice the last wins."""
    vanishing = tmp_path / "vanishing.txt"
    vanishing.write_text("Here for a moment.")
    cyclic: dict[str, Any] = {}
    cyclic["self"] = cyclic

    def documents() -> Iterator[Document]:
        yield Document(id="good", text="A good text.")
        yield Document(id="x" * 10_000, text="Its id is too long.")
        yield Document(id="nul\x00", text="Its id holds a NUL.")
        yield Document(id="lone\ud800", text="Its id is no Unicode.")
        yield Document(id="object", text="Its metadata is an object.", metadata={"it": object()})
        yield Document(id="nan", text="Its metadata is no number.", metadata={"it": float("nan")})
        yield Document(id="cycle", text="Its metadata has no end.", metadata=cyclic)
        yield Document(id="http", uri="http://localhost/page")
        yield Document(id="vanishing", uri=str(vanishing))
        yield Document(id="twice", text="The first of two.")
        yield Document(id="twice", text="The second of two.")
        yield Document(id="surrogate", text="A lone \ud800 surrogate.", metadata={"also": "a NUL \x00"})
        vanishing.unlink()

    deployment.start_worker()
    job = deployment.pipeline("bad-documents").enqueue(documents())
    report = deployment.wait(job)
    assert report.documents.failed == 8
    assert {failure.stage for failure in job.failures()} == {"read"}
    assert report.documents.duplicate == 1
    assert deployment.documents("bad-documents") == {"good", "twice", "surrogate"}
    (twice,) = [node for node in _texts(deployment, "bad-documents") if "of two" in node]
    assert twice == "The second of two."


def test_a_text_of_40_megabytes_is_ingested(deployment: Deployment, tmp_path: Path) -> None:
    """One very large text travels alone, and becomes nodes like any other."""
    large = tmp_path / "large.txt"
    line = "The quick brown fox number {} jumps over the lazy dog, and then it jumps again.\n"
    with large.open("w") as file:
        for number in range(500_000):
            file.write(line.format(number))
    assert large.stat().st_size > 40_000_000
    deployment.start_worker()
    pipeline = IngestionPipeline(
        "large",
        [SentenceSplitter(chunk_size=512, chunk_overlap=0), Embed("hashed/8")],
        connections=deployment.connections,
    )
    report = deployment.wait(pipeline.enqueue([Document(id="large", uri=str(large))]), 120)
    assert (report.state, report.documents.new) == (JobState.SUCCEEDED, 1)
    assert report.nodes.upserted > 19_000


def test_an_unknown_transformation_ends_the_job_with_the_names_there_are(deployment: Deployment) -> None:
    """A worker that does not know a transformation ends the job, and its error lists those it knows."""
    unprepared = deployment.settings.model_copy(update={"modules": ()})
    deployment.settings = unprepared
    deployment.start_worker()
    report = deployment.wait(deployment.pipeline("unknown", Slow()).enqueue([Document(id="one", text="A text.")]))
    assert report.state is JobState.FAILED
    assert "test_slow" in str(report.error)
    assert "sentence_splitter" in str(report.error)


def test_a_transformation_that_returns_none_ends_the_job(deployment: Deployment) -> None:
    """A transformation that returns no nodes ends the job with one error that names it, and nothing is embedded."""
    deployment.start_worker()
    texts = [Document(id=f"d{number}", text=f"Text {number}. " * 400) for number in range(40)]
    job = deployment.pipeline("forgetful", Forgetful()).enqueue(texts)
    report = deployment.wait(job)
    assert (report.state, report.tokens.embedding) == (JobState.FAILED, 0)
    assert "transformation 'test_forgetful' returned None; allowed is a list of Nodes" in str(report.error)
    assert [failure.document_id for failure in job.failures()] == ["*"]


def _make_elsewhere(deployment: Deployment, name: str) -> None:
    with begin(deployment.connections.engine) as connection:
        elsewhere = {"name": name, "store": "elsewhere", "model": "hashed", "dimension": 256}
        connection.execute(insert(collections).values(**elsewhere))


def test_a_collection_of_another_store_ends_the_job_before_anything_is_paid_for(deployment: Deployment) -> None:
    """Nodes for a collection that lives elsewhere are not made: the job fails, and says which store has it."""
    deployment.start_worker()
    _make_elsewhere(deployment, "taken")
    report = deployment.wait(deployment.pipeline("taken").enqueue([Document(id="a", text="Some words.")]))
    assert (report.state, report.tokens.embedding) == (JobState.FAILED, 0)
    assert "lives in the vector store 'elsewhere'" in str(report.error)


def test_what_keeps_all_nodes_out_of_the_store_is_no_documents_fault(deployment: Deployment) -> None:
    """A commit that the store refuses as such ends the job with the reason, once; no document is taken apart for it."""
    deployment.start_worker()
    job = deployment.pipeline("disputed", Slow(seconds=1.0)).enqueue([Document(id="a", text="Some words.")])
    wait_for(lambda: job.progress.batches.get(BatchState.RUNNING))
    _make_elsewhere(deployment, "disputed")
    report = deployment.wait(job)
    assert (report.state, report.batches.total) == (JobState.FAILED, 1)
    assert "lives in the vector store 'elsewhere'" in str(report.error)
    assert [failure.document_id for failure in job.failures()] == ["*"]


def test_services_that_do_not_answer_are_named_within_ten_seconds(deployment: Deployment) -> None:
    """A database or broker that refuses, or accepts and says nothing, is an error with its address, soon."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # takes connections, answers none
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        for change in (
            {"database_url": f"postgresql+psycopg://user:secret@{address}/docmill"},
            {"database_url": "postgresql+psycopg://user:secret@127.0.0.1:9/docmill"},
            {"broker_url": f"redis://:secret@{address}/0"},
            {"broker_url": "redis://:secret@127.0.0.1:9/0"},
        ):
            started = time.monotonic()
            pipeline = IngestionPipeline(
                "unreachable", [Embed("hashed")], settings=deployment.settings.model_copy(update=change)
            )
            with pytest.raises(ServiceUnreachable) as caught:
                pipeline.enqueue([Document(id="one", text="A text.")])
            assert time.monotonic() - started < 10
            assert "127.0.0.1" in str(caught.value)
            assert "secret" not in str(caught.value)


def _texts(deployment: Deployment, collection: str) -> list[str]:
    found = search(deployment.connections.engine, deployment.settings, "the text", collection=collection, k=100)
    return [match.text for match in found]
