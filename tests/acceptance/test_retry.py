"""Failed documents are kept, tried again without their source, and resolved by whatever ingests them at last."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Document, FileReader, Job, JobState
from orchestrator.contracts.errors import EmptySource
from orchestrator.runtime import worker_environment
from tests.deployment import Deployment, run_docmill, wait_for
from tests.transformations import Poisonous, Slow, Unready
from workers.search import search

pytestmark = pytest.mark.acceptance


def corpus(*bad: int, count: int = 8) -> list[Document]:
    return [
        Document(id=f"doc{number}", text=f"Text {number} of {'poison' if number in bad else 'honey'}. " * 40)
        for number in range(count)
    ]


def command(deployment: Deployment, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The JSON that a command prints."""
    ended = run_docmill([*arguments, "--json"], worker_environment(deployment.settings))
    assert ended.returncode == code, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    assert isinstance(found, dict)
    return found


def test_failed_documents_are_retried_without_their_source(deployment: Deployment, tmp_path: Path) -> None:
    """Once the fault is mended, a retry ingests what had failed and nothing else, and the failures are resolved."""
    deployment.start_worker()
    mark = tmp_path / "mark"
    pipeline = deployment.pipeline("retried", Unready(mark=str(mark)))
    job = pipeline.enqueue(corpus(2, 5))
    assert deployment.wait(job).documents.failed == 2
    assert [(failure.document_id, failure.can_retry) for failure in job.failures()] == [("doc2", True), ("doc5", True)]

    again = job.retry_failed()  # nothing is mended yet
    assert deployment.wait(again).documents.failed == 2
    assert len(job.failures()) == len(again.failures()) == 2

    mark.touch()
    last = job.retry_failed()
    report = deployment.wait(last)
    assert (report.state, report.documents.seen, report.documents.new) == (JobState.SUCCEEDED, 2, 2)
    assert job.failures() == again.failures() == []
    resolved = job.failures(include_resolved=True)
    assert [failure.document_id for failure in resolved] == ["doc2", "doc5"]
    assert all(failure.resolved_at and not failure.can_retry for failure in resolved)
    assert deployment.documents("retried") == {document.id for document in corpus()}
    assert deployment.wait(pipeline.enqueue(corpus(2, 5))).documents.unchanged == 8
    with pytest.raises(EmptySource, match="no failed documents"):
        job.retry_failed()


def test_another_ingestion_resolves_failures_too(deployment: Deployment) -> None:
    """A document that is mended in its source and ingested again resolves its failure, and cannot be retried."""
    deployment.start_worker()
    pipeline = deployment.pipeline("mended", Poisonous())
    job = pipeline.enqueue(corpus(1))
    assert deployment.wait(job).documents.failed == 1
    deployment.wait(pipeline.enqueue(corpus()))
    assert job.failures() == []
    with pytest.raises(EmptySource):
        job.retry_failed()


def test_retries_at_once_leave_one_copy(deployment: Deployment, tmp_path: Path) -> None:
    """A second retry while the first still runs does the same work again, and the store holds it once."""
    worker = deployment.start_worker(concurrency=2)
    mark = tmp_path / "mark"
    job = deployment.pipeline("at-once", Slow(seconds=0.05), Unready(mark=str(mark))).enqueue(corpus(*range(8)))
    assert deployment.wait(job).documents.failed == 8
    worker.stop()
    mark.touch()
    retries = [job.retry_failed(), job.retry_failed()]  # on a busy machine a worker could end the first before this
    deployment.start_worker(concurrency=2)
    reports = [deployment.wait(retry) for retry in retries]
    assert {report.state for report in reports} == {JobState.SUCCEEDED}
    nodes = deployment.nodes("at-once")
    assert len(nodes) == len(set(nodes)) == reports[1].nodes.upserted
    assert {document for document, _ in nodes} == {document.id for document in corpus()}
    assert job.failures() == []


def test_a_retry_never_brings_back_what_is_older(deployment: Deployment, tmp_path: Path) -> None:
    """A document that a later job ingested with other words keeps them when an older failure is retried."""
    mark = tmp_path / "mark"
    pipeline = deployment.pipeline("older", Unready(mark=str(mark)))
    worker = deployment.start_worker()
    job = pipeline.enqueue([Document(id="a", text="The poison of yesterday."), Document(id="b", text="Also poison.")])
    assert deployment.wait(job).documents.failed == 2
    worker.stop()
    mark.touch()
    retry = job.retry_failed()  # waits for a worker
    later = pipeline.enqueue([Document(id="a", text="The honey of today.")])
    deployment.start_worker()
    assert deployment.wait(retry).state is deployment.wait(later).state is JobState.SUCCEEDED
    found = search(deployment.connections.engine, deployment.settings, "of", collection="older", k=9)
    assert sorted(match.text for match in found) == ["Also poison.", "The honey of today."]


def test_of_one_id_twice_the_later_is_kept(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    """If the first of two documents with one id failed, retrying it does not replace the second."""
    deployment = deploy(slice_documents=1)
    deployment.start_worker()
    mark = tmp_path / "mark"
    twice = [Document(id="a", text="The poison of the first."), Document(id="a", text="The honey of the second.")]
    job = deployment.pipeline("twice", Unready(mark=str(mark))).enqueue(twice)
    report = deployment.wait(job)
    assert (report.documents.new, report.documents.failed) == (1, 1)
    mark.touch()
    if job.remainder.kept:  # the failure was recorded after the commit
        assert deployment.wait(job.retry_failed()).documents.seen == 0
    assert job.failures() == []
    found = search(deployment.connections.engine, deployment.settings, "of", collection="twice", k=9)
    assert [match.text for match in found] == ["The honey of the second."]


def test_the_command_line_retries_and_says_what_it_cannot(deployment: Deployment, tmp_path: Path) -> None:
    """`docmill retry` waits for its job and lists what was refused at reading; `failures` hides what is resolved."""
    deployment.start_worker()
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "good.txt").write_text("A text of honey.")
    (folder / "bad.txt").write_text("A text of poison.")
    (folder / "empty.txt").write_text("")
    mark = tmp_path / "mark"
    job = deployment.pipeline("commanded", Unready(mark=str(mark))).enqueue(FileReader(folder))
    assert deployment.wait(job).documents.failed == 2

    mark.touch()
    retried = command(deployment, "retry", job.id, code=3)
    assert (retried["state"], retried["documents"]["new"]) == ("succeeded", 1)
    assert retried["not_retried"] == {"documents": ["empty.txt"], "not_kept": 1, "dropped": 0}
    assert [row["document_id"] for row in command(deployment, "failures", job.id)["failures"]] == ["empty.txt"]
    every = command(deployment, "failures", job.id, "--all")["failures"]
    assert {row["document_id"]: bool(row["resolved_at"]) for row in every} == {"bad.txt": True, "empty.txt": False}
    assert "must be read again" in command(deployment, "retry", job.id, code=1)["message"]
    assert command(deployment, "retry", retried["job_id"])["job_id"] is None
    assert command(deployment, "retry", "0123456789ab", code=1)["error"] == "JobNotFound"


def test_what_a_cancelled_job_let_go_is_said(deployment: Deployment) -> None:
    """Documents of cancelled batches were not kept: retry says how many, unless only failed ones are asked for."""
    worker = deployment.start_worker()
    job = deployment.pipeline("let-go", Slow(seconds=0.05), Poisonous()).enqueue(corpus(0, 1, 2, count=60))
    wait_for(lambda: job.progress.failed)
    job.cancel()
    report = deployment.wait(job)
    assert report.state is JobState.CANCELLED
    dropped = 60 - report.documents.new - report.documents.failed
    assert dropped > 0
    retried = command(deployment, "retry", job.id, "--no-wait")
    assert retried["not_retried"]["dropped"] == dropped
    assert command(deployment, "retry", job.id, "--only-failed", "--no-wait")["not_retried"]["dropped"] == 0
    deployment.wait(Job(deployment.connections, retried["job_id"]))
    worker.stop()
