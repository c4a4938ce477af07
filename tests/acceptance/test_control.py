"""Jobs are paused, resumed and put before others; each can be asked for twice."""

from pathlib import Path

import pytest

from orchestrator import Document, JobState
from orchestrator.contracts.errors import ConfigurationError, JobNotFound
from orchestrator.contracts.report import BatchState
from orchestrator.job import Job
from tests.deployment import Deployment, wait_for
from tests.terminal import Terminal
from tests.transformations import Slow

pytestmark = pytest.mark.acceptance


def corpus(name: str, count: int) -> list[Document]:
    return [
        Document(id=f"{name}{number}", text=f"Document {number} of {name} tells of topic{number}. " * 60)
        for number in range(count)
    ]


def test_a_paused_job_begins_no_batch_until_it_is_resumed(deployment: Deployment) -> None:
    """Pausing lets running batches end and begins no more, twice is once, and resuming finishes the job."""
    deployment.start_worker(concurrency=2)
    job = deployment.pipeline("paused", Slow(seconds=0.03)).enqueue(corpus("p", 120))
    wait_for(lambda: job.progress.settled > 10)
    job.pause()
    job.pause()
    wait_for(lambda: set(job.progress.batches) <= {BatchState.PENDING, BatchState.COMMITTED})
    settled = job.progress.settled
    assert job.progress.paused
    assert settled < 120
    # Another job passes it meanwhile.
    assert deployment.wait(deployment.pipeline("passing").enqueue(corpus("q", 30))).state is JobState.SUCCEEDED
    assert job.progress.settled == settled
    job.resume()
    job.resume()
    report = deployment.wait(job)
    assert (report.state, report.documents.new) == (JobState.SUCCEEDED, 120)
    job.pause()
    assert job.state is JobState.SUCCEEDED


def test_a_job_of_high_priority_overtakes_one_that_waits(deployment: Deployment) -> None:
    """Batches of a job of high priority are taken before those of a job that was enqueued earlier."""
    low = deployment.pipeline("low", Slow(seconds=0.02)).enqueue(corpus("l", 60), priority="low")
    high = deployment.pipeline("high", Slow(seconds=0.02)).enqueue(corpus("h", 20), priority="high")
    deployment.start_worker()
    assert deployment.wait(high).state is JobState.SUCCEEDED
    assert low.progress.settled < 30
    assert deployment.wait(low).documents.new == 60
    with pytest.raises(ConfigurationError, match="'urgent' is unknown; allowed are high, normal, low"):
        deployment.pipeline("none").enqueue(corpus("n", 1), priority="urgent")


def test_a_job_that_does_not_exist_cannot_be_controlled(deployment: Deployment) -> None:
    """Cancel, pause and resume of an unknown job say that there is none."""
    unknown = Job(deployment.connections, "000000000000")
    for ask in (unknown.cancel, unknown.pause, unknown.resume):
        with pytest.raises(JobNotFound, match="000000000000"):
            ask()


@pytest.mark.parametrize(("answer", "state"), [("c", JobState.CANCELLED), ("d", JobState.RUNNING)])
def test_ctrl_c_asks_whether_to_detach_or_to_cancel(
    deployment: Deployment, tmp_path: Path, answer: str, state: JobState
) -> None:
    """Ctrl-C while `ingest` waits asks what is to become of the job, and does it."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "one.txt").write_text("No worker runs, so this waits.")
    terminal = Terminal(deployment, "ingest", str(folder), "--embedder", "hashed")
    terminal.read_until("documents")
    terminal.press_ctrl_c()
    terminal.read_until("ancel it?")
    terminal.type_line(answer)
    said = terminal.read_to_the_end()
    assert terminal.process.wait(20) == 130
    job = said.split("job ")[1][:12]
    assert Job(deployment.connections, job).state is state
