"""Wherever a process dies between two steps of the flow, the job ends by itself as if nothing had happened.

Every failpoint of the list is tried, so that a new one is tested without another word here.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrator import Job, JobState, Report
from orchestrator.contracts.failpoints import DIR_VARIABLE, FAILPOINTS, VARIABLE, FailpointName
from orchestrator.contracts.report import TERMINAL_JOB_STATES
from orchestrator.ledger import jobs
from orchestrator.ledger.engine import begin
from orchestrator.runtime import worker_environment
from orchestrator.settings import Settings, load_settings
from tests.crashing import COLLECTION, generation, pipeline
from tests.deployment import Deployment, Worker, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(60)]

_ROOT = Path(__file__).parents[2]
_OF_CLIENT = [name for name in FAILPOINTS if name.startswith("dispatch.")]
_OF_WORKER = [name for name in FAILPOINTS if not name.startswith("dispatch.")]
# The reconciler has something to move only after another process has died at the right place.
_FIRST: dict[FailpointName, FailpointName] = {
    "reconcile.abandoned": "transform.leased",
    "reconcile.exhausted": "transform.leased",
    "reconcile.lost": "window.published",
    "reconcile.forgotten": "gather.taken",
}
_TRIES = 3  # on a busy machine the broker may deliver again before the reconciler comes by: it has nothing to do then
_PATIENCE_SECONDS = 30.0  # with these settings; a busy machine gets some of it
_LEFT_OF_GENERATION = 30  # documents, of a source from which some vanish and nothing else happens


class Failpoints:
    """All failpoints of a process, each of which lets it die once after it was armed."""

    def __init__(self, folder: Path, names: list[FailpointName], action: str) -> None:
        self.folder = folder
        self.environment = {VARIABLE: ",".join(f"{name}={action}@1" for name in names), DIR_VARIABLE: str(folder)}
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b".")  # as if it had been hit: the next hit is not the first

    def arm(self, name: FailpointName) -> None:
        """Let whoever comes by next die."""
        os.truncate(self.folder / name, 0)

    def is_hit(self, name: FailpointName) -> bool:
        """Whether somebody came by since it was armed."""
        return (self.folder / name).stat().st_size > 0


@dataclass(frozen=True)
class Outcome:
    """What a generation leaves behind when nothing disturbs it."""

    report: Report
    nodes: list[tuple[str, str]]


class Crew:
    """Workers that are started again when they die, and the generations that they ingest one after another."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.environment: dict[str, str] = {}
        self.workers: list[Worker] = []
        self.number = 0
        self.undisturbed: dict[int, Outcome] = {}

    def start(self, count: int, failpoints: Failpoints | None = None) -> None:
        """Work with so many workers and these failpoints from now on."""
        for worker in self.workers:
            worker.stop()
        self.environment = failpoints.environment if failpoints else {}
        self.workers = [self._start_one() for _ in range(count)]

    def _start_one(self) -> Worker:
        return self.deployment.start_worker(concurrency=1, **self.environment)

    def look_after(self) -> None:
        """Start again what died, as a supervisor would."""
        self.workers = [worker if worker.process.poll() is None else self._start_one() for worker in self.workers]

    def enqueue(self) -> Job:
        """Enqueue the next generation."""
        self.number += 1
        return pipeline(self.deployment.connections).enqueue(generation(self.number))

    def end(self, job: Job) -> Report:
        """Look after the workers until the job has ended."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            self.look_after()
            try:
                return job.wait(0.3)
            except TimeoutError as error:
                assert time.monotonic() < deadline, f"{error}; {job.progress}\n{self.last_words}"

    def hit(self, failpoints: Failpoints, name: FailpointName, *, unless_ended: Job | None = None) -> bool:
        """Look after the workers until one of them has died there; False if this job ended without that."""

        def is_hit_or_ended() -> bool:
            self.look_after()
            return failpoints.is_hit(name) or (unless_ended is not None and unless_ended.state in TERMINAL_JOB_STATES)

        wait_for(is_hit_or_ended, seconds=_PATIENCE_SECONDS)
        return failpoints.is_hit(name)

    @property
    def last_words(self) -> str:
        """What the workers said, dead ones too."""
        return "\n".join(worker.log.read_text(errors="replace")[-2000:] for worker in self.deployment.workers[-3:])

    def learn(self) -> None:
        """Ingest both generations undisturbed, each after the other."""
        for _ in range(3):
            report = self.end(self.enqueue())
            self.undisturbed[self.number % 2] = Outcome(report, self.deployment.nodes(COLLECTION))

    def check(self, report: Report) -> None:
        """The last generation left what it would have left undisturbed."""
        expected = self.undisturbed[self.number % 2]
        self.check_consistency()
        assert self.deployment.nodes(COLLECTION) == expected.nodes
        assert report.state is JobState.SUCCEEDED_WITH_FAILURES
        assert report.documents == expected.report.documents
        assert report.nodes == expected.report.nodes
        assert _accounted(report) == report.documents.seen

    def check_consistency(self) -> None:
        """Ledger and store hold the same documents, each node once."""
        nodes = self.deployment.nodes(COLLECTION)
        assert len(nodes) == len(set(nodes))
        assert {document for document, _ in nodes} == self.deployment.documents(COLLECTION)


def _accounted(report: Report) -> int:
    counts = report.documents
    return counts.new + counts.changed + counts.unchanged + counts.duplicate + counts.failed


@pytest.fixture(scope="module")
def crash_settings(
    postgres_url: str, redis_url: str, cache_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """A deployment that loses patience soon, whose window a small job fills, and whose slices are many."""
    return load_settings(
        database_url=postgres_url,
        broker_url=redis_url,
        cache_url=cache_url,
        home=tmp_path_factory.mktemp("home"),
        slice_documents=40,
        batch_bytes=28 * 1024,
        window=4,
        segment_batches=2,
        modules="tests.crashing",
        heartbeat=0.5,
        stale_after=2.0,
        reconcile_every=0.5,
        lost_after=1.0,
        forgotten_after=1.0,
    )


@pytest.fixture(scope="module")
def crew(crash_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """Workers that have ingested both generations once."""
    deployment = Deployment(crash_settings, tmp_path_factory.mktemp("crashes"))
    crew = Crew(deployment)
    try:
        crew.start(1)
        crew.learn()
        yield crew
    finally:
        deployment.close()


@pytest.fixture(scope="module", params=[("kill", 1), ("kill_group", 2)], ids=["child", "worker"])
def failpoints(request: pytest.FixtureRequest, crew: Crew, tmp_path_factory: pytest.TempPathFactory) -> Failpoints:
    """Failpoints at which the process that runs a task dies; or, of two workers, one with all of its processes."""
    action, workers = request.param
    failpoints = Failpoints(tmp_path_factory.mktemp("failpoints") / "hits", _OF_WORKER, action)
    crew.start(workers, failpoints)
    return failpoints


@pytest.mark.parametrize("name", _OF_WORKER)
def test_a_worker_may_die_anywhere(name: FailpointName, failpoints: Failpoints, crew: Crew) -> None:
    """Where a worker dies once, the job ends with the nodes, the documents and the counts of an undisturbed run."""
    for _ in range(_TRIES):
        failpoints.arm(name)
        if name in _FIRST:
            failpoints.arm(_FIRST[name])
        job = crew.enqueue()
        if name in _FIRST:
            crew.hit(failpoints, _FIRST[name])
        if name == "reconcile.exhausted":
            _count_earlier_deaths(crew, job)
        was_hit = crew.hit(failpoints, name, unless_ended=job if name in _FIRST else None)
        crew.check(crew.end(job))
        if was_hit:
            return
    pytest.fail(f"{_TRIES} jobs ended without coming by {name}")


def _count_earlier_deaths(crew: Crew, job: Job) -> None:
    """As if the batch that just lost its worker had lost others before."""
    strikes = crew.deployment.settings.max_attempts - 1
    with begin(crew.deployment.connections.engine) as connection:
        connection.execute(
            text("UPDATE batches SET strikes = :strikes WHERE job_id = :job AND state = 'running'"),
            {"strikes": strikes, "job": job.id},
        )


@pytest.fixture(scope="module")
def calm_crew(crew: Crew) -> Crew:
    """Workers that do not die."""
    crew.start(1)
    return crew


def _ingest(crew: Crew, failpoints: Failpoints, *, only_removes: bool) -> subprocess.CompletedProcess[bytes]:
    """A client that ingests the next generation, or what is left of the last one once some of it has vanished."""
    arguments = [str(crew.number), str(_LEFT_OF_GENERATION)] if only_removes else [str(crew.number + 1)]
    return subprocess.run(
        [sys.executable, "-c", "from tests.crashing import ingest; ingest()", *arguments],
        env={**os.environ, **worker_environment(crew.deployment.settings), **failpoints.environment},
        cwd=_ROOT,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("name", _OF_CLIENT)
def test_a_client_may_die_anywhere(name: FailpointName, calm_crew: Crew, tmp_path: Path) -> None:
    """Where a client dies, its job ends by itself with what was accepted ingested, and ingesting again completes it."""
    crew = calm_crew
    failpoints = Failpoints(tmp_path / "hits", [name], "kill")
    failpoints.arm(name)
    only_removes = name == "dispatch.finish_due"
    for _ in range(_TRIES):
        client = _ingest(crew, failpoints, only_removes=only_removes)
        if failpoints.is_hit(name) or not only_removes:
            break
        # The reconciler came by first, and had removed them before the client could ask for it.
        crew.check_consistency()
        crew.end(crew.enqueue())
    assert client.returncode == -signal.SIGKILL
    assert failpoints.is_hit(name)

    with begin(crew.deployment.connections.engine) as connection:
        (job_row,) = jobs.recent(connection, 1)
    report = crew.end(Job(crew.deployment.connections, job_row.id))
    crew.check_consistency()
    if name in ("dispatch.listed", "dispatch.finish_due"):
        assert report.state in (JobState.SUCCEEDED, JobState.SUCCEEDED_WITH_FAILURES)
        assert report.documents.deleted > 0
        assert _accounted(report) == report.documents.seen
    else:
        assert report.state is JobState.FAILED
        assert "the client vanished" in str(report.error)
        assert report.documents.deleted == 0
        assert 0 < _accounted(report) == report.documents.seen  # what died with the client was not seen

    again = crew.end(crew.enqueue())
    crew.check_consistency()
    assert crew.deployment.nodes(COLLECTION) == crew.undisturbed[crew.number % 2].nodes
    assert _accounted(again) == again.documents.seen
