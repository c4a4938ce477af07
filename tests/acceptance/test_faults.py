"""Whatever dies, a job ends by itself, with every document in the store once or in the failures table."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import Document, Job, JobState
from orchestrator.connections import Connections
from orchestrator.contracts.queues import send_transforms
from orchestrator.contracts.report import BatchState
from orchestrator.ledger import jobs
from orchestrator.ledger.engine import begin
from tests.deployment import Deployment, wait_for
from tests.transformations import Deadly, Endless, Flaky, Hungry, Poisonous, Slow
from workers.search import search
from workers.transformations import Transformation

pytestmark = pytest.mark.acceptance


def corpus(count: int, word: str = "") -> list[Document]:
    return [
        Document(id=f"doc{number}", text=f"Document {number} tells of topic{number} {word}. " * 60)
        for number in range(count)
    ]


def test_a_killed_worker_costs_time_and_nothing_else(deployment: Deployment) -> None:
    """kill -9 of a whole worker in the middle of a job: another finishes it, with the nodes of an undisturbed run."""
    victim = deployment.start_worker(concurrency=2)
    job = deployment.pipeline("killed", Slow(seconds=0.1)).enqueue(corpus(120))
    wait_for(lambda: job.progress.settled > 20 and job.progress.batches.get(BatchState.RUNNING) == 2)
    victim.kill()
    assert job.progress.settled < 100, "the worker was done before it was killed"
    deployment.start_worker(concurrency=2)
    report = deployment.wait(job, 60)
    assert report.state is JobState.SUCCEEDED
    assert report.documents.new == 120
    assert report.batches.retried > 0

    undisturbed = deployment.wait(deployment.pipeline("undisturbed", Slow(seconds=0.0)).enqueue(corpus(120)))
    assert undisturbed.nodes.upserted == report.nodes.upserted == len(deployment.nodes("killed"))
    assert {document for document, _ in deployment.nodes("killed")} == deployment.documents("killed")


def test_a_flushed_redis_costs_time_and_nothing_else(deployment: Deployment) -> None:
    """FLUSHALL in the middle of a job loses messages, nodes and counts; the ledger sends it all again."""
    deployment.start_worker(concurrency=2)
    job = deployment.pipeline("flushed", Slow(seconds=0.02)).enqueue(corpus(120))
    wait_for(lambda: job.progress.settled > 20)
    deployment.redis.flushall()
    report = deployment.wait(job, 60)
    assert report.state is JobState.SUCCEEDED
    assert report.documents.new == 120
    assert len(deployment.nodes("flushed")) == report.nodes.upserted


def test_a_worker_told_to_stop_hands_back_what_it_has_not_done(deployment: Deployment) -> None:
    """SIGTERM under load ends a worker cleanly, and another takes over what is left."""
    first = deployment.start_worker(concurrency=2)
    job = deployment.pipeline("termed", Slow(seconds=0.03)).enqueue(corpus(100))
    wait_for(lambda: job.progress.settled > 10)
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(20) == 0
    deployment.start_worker(concurrency=2)
    report = deployment.wait(job)
    assert (report.state, report.documents.new) == (JobState.SUCCEEDED, 100)


def test_a_poisonous_document_costs_itself_alone(deployment: Deployment) -> None:
    """A transformation that raises for one document puts that one into the failures table, with its traceback."""
    deployment.start_worker()
    documents = corpus(30)
    documents[13] = Document(id="bad", text="This one holds poison.")
    job = deployment.pipeline("poisoned", Poisonous()).enqueue(documents)
    report = deployment.wait(job)
    assert report.state is JobState.SUCCEEDED_WITH_FAILURES
    assert (report.documents.new, report.documents.failed) == (29, 1)
    (failure,) = job.failures()
    assert (failure.document_id, failure.stage, failure.error) == ("bad", "transform", "RuntimeError")
    assert failure.transformation == "test_poisonous"
    assert "cannot stand poison" in str(failure.traceback)


def test_a_document_that_kills_its_process_is_quarantined(deploy: Callable[..., Deployment]) -> None:
    """A document at which the process dies is found by halving, given up, and costs no other document anything."""
    deployment = deploy(batch_bytes=16 * 1024, stale_after=3.0, max_attempts=2)
    deployment.start_worker(concurrency=2)
    documents = corpus(8)
    documents[3] = Document(id="killer", text="A deadly text.")
    job = deployment.pipeline("deadly", Deadly()).enqueue(documents)
    report = deployment.wait(job, 120)
    assert report.state is JobState.SUCCEEDED_WITH_FAILURES
    assert (report.documents.new, report.documents.failed) == (7, 1)
    (failure,) = job.failures()
    assert (failure.document_id, failure.error, failure.attempts) == ("killer", "WorkerLost", 2)
    assert failure.first_at is not None
    assert failure.created_at is not None
    assert (failure.created_at - failure.first_at).total_seconds() > 2 * deployment.settings.stale_after


@pytest.mark.parametrize(("step", "word"), [(Endless(), "endless"), (Hungry(), "hungry")])
def test_a_document_that_takes_all_time_or_memory_is_quarantined(
    deploy: Callable[..., Deployment], step: Transformation, word: str
) -> None:
    """A document that never ends, or takes all memory, meets its limit, stands alone, and costs no other anything."""
    deployment = deploy(time_limit=3.0, memory_limit=512 * 1024 * 1024, stale_after=3.0, max_attempts=2)
    deployment.start_worker(concurrency=2)
    documents = [*corpus(3), Document(id="greedy", text=f"A text that is {word}.")]
    job = deployment.pipeline(word, step).enqueue(documents)
    report = deployment.wait(job, 120)
    assert (report.state, report.documents.new) == (JobState.SUCCEEDED_WITH_FAILURES, 3)
    (failure,) = job.failures()
    assert failure.document_id == "greedy"
    assert failure.error in ("WorkerLost", "MemoryError")


def test_a_passing_trouble_is_waited_out(deployment: Deployment, tmp_path: Path) -> None:
    """A transient error is retried after a delay, with its reason in sight, and the job then succeeds."""
    deployment.start_worker()
    job = deployment.pipeline("flaky", Flaky(mark=str(tmp_path / "mark"))).enqueue(corpus(3))
    reasons: list[str] = []
    report = job.wait(60, on_progress=lambda found: reasons.extend(found.reasons))
    assert (report.state, report.documents.new, report.batches.retried) == (JobState.SUCCEEDED, 3, 1)
    assert "TransientError: the service is busy" in reasons


def test_two_jobs_with_the_same_documents_leave_one_copy(deployment: Deployment) -> None:
    """Of two jobs at once, enqueued from two clients, the last enqueued wins, and each document is there once."""
    deployment.start_worker(concurrency=2)
    other = Connections(deployment.settings)
    first = deployment.pipeline("shared", Slow(seconds=0.01)).enqueue(corpus(60, "first"))
    second = deployment.pipeline("shared", Slow(seconds=0.01), connections=other).enqueue(corpus(60, "second"))
    reports = [deployment.wait(first), deployment.wait(second)]
    other.close()
    assert {report.state for report in reports} == {JobState.SUCCEEDED}
    nodes = deployment.nodes("shared")
    assert len(nodes) == len(set(nodes))
    assert reports[1].nodes.upserted == len(nodes)
    found = search(deployment.connections.engine, deployment.settings, "topic", collection="shared", k=len(nodes))
    assert all("second" in match.text for match in found)


def test_a_cancelled_job_stops_and_leaves_the_store_whole(deployment: Deployment) -> None:
    """Cancelling takes effect within a batch, twice is once, and every node belongs to a known document."""
    deployment.start_worker(concurrency=2)
    job = deployment.pipeline("cancelled", Slow(seconds=0.03)).enqueue(corpus(150))
    wait_for(lambda: job.progress.settled > 10)
    job.cancel()
    job.cancel()
    report = deployment.wait(job, 20)
    assert report.state is JobState.CANCELLED
    assert 0 < report.documents.new < 150
    assert {document for document, _ in deployment.nodes("cancelled")} == deployment.documents("cancelled")


def test_every_message_delivered_twice_changes_nothing(deployment: Deployment) -> None:
    """Counts, nodes and the bill are the same when each message arrives twice."""
    job = deployment.pipeline("twice", Slow(seconds=0.0)).enqueue(corpus(40))
    total = job.report.batches.total
    send_transforms(deployment.connections.app, job.id, [(number, 1) for number in range(total)])
    deployment.start_worker(concurrency=2)
    deployment.start_worker(concurrency=2)
    report = deployment.wait(job)
    once = deployment.wait(deployment.pipeline("once", Slow(seconds=0.0)).enqueue(corpus(40)))
    assert (report.state, report.documents, report.nodes) == (JobState.SUCCEEDED, once.documents, once.nodes)


def test_the_death_of_a_client_ends_its_job(deploy: Callable[..., Deployment]) -> None:
    """A client that dies while it reads its source leaves a job that fails by itself, with what was read ingested."""
    deployment = deploy(stale_after=3.0)
    deployment.start_worker()
    pipeline = deployment.pipeline("orphaned")
    with begin(deployment.connections.engine) as connection:
        job_row = jobs.create(connection, "0123456789ab", pipeline.spec)
    report = deployment.wait(Job(deployment.connections, job_row.id), 30)
    assert report.state is JobState.FAILED
    assert "vanished" in str(report.error)


def test_waiters_are_told_at_once(deployment: Deployment) -> None:
    """Many waiters of one job all see its end."""
    deployment.start_worker(concurrency=2)
    job = deployment.pipeline("waited", Slow(seconds=0.01)).enqueue(corpus(40))
    states: list[JobState] = []
    threads = [threading.Thread(target=lambda: states.append(job.wait(60).state)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == [JobState.SUCCEEDED] * 4
