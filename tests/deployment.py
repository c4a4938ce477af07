"""A deployment for acceptance tests: real servers, and worker processes that can be killed for real."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from redis import Redis
from sqlalchemy import text

from orchestrator.connections import Connections
from orchestrator.contracts.addresses import redis_client_url
from orchestrator.contracts.report import Report
from orchestrator.job import Job
from orchestrator.ledger.engine import begin
from orchestrator.ledger.migrate import upgrade
from orchestrator.pipeline import IngestionPipeline
from orchestrator.runtime import worker_command, worker_environment
from orchestrator.settings import Settings, load_settings
from workers.transformations import Embed, SentenceSplitter
from workers.transformations.contract import Transformation
from workers.vector_stores import VectorStore, open_vector_store

__all__ = ["Deployment", "Worker", "deployment_settings", "run_docmill", "wait_for"]

_ROOT = Path(__file__).parent.parent


def wait_for(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Wait until a condition holds that only another process can make true; fails when it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{condition} did not hold within {seconds} s"
        time.sleep(0.02)


class Worker:
    """One real worker: a Celery main with its children, in a session of its own."""

    def __init__(
        self, settings: Settings, log: Path, *, concurrency: int, environment: Mapping[str, str], python: Path
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(python), *worker_command(concurrency)[1:], "--hostname", f"{log.stem}@%h"],
                env={**os.environ, **worker_environment(settings), **environment, "PYTHONPATH": str(_ROOT)},
                stdout=output,
                stderr=output,
                cwd=_ROOT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """kill -9 for the main process and all its children, at once; nothing happens where they have gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        """SIGTERM, then wait; kill what does not go."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


def deployment_settings(
    database_url: str, broker_url: str, cache_url: str, folder: Path, *, result_url: str | None = None
) -> Settings:
    """The settings of a deployment on these servers, with batches so small that there are many."""
    return load_settings(
        database_url=database_url,
        broker_url=broker_url,
        result_url=result_url,
        cache_url=cache_url,
        home=folder,
        batch_bytes=8 * 1024,
        window=16,
        segment_batches=4,
        modules="tests.transformations",
        heartbeat=1.0,
        stale_after=4.0,
        reconcile_every=1.0,
    )


class Deployment:
    """Database, Redis and workers of one test; the workers run by the tests' own Python, or by another."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        python: Path = Path(sys.executable),
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.environment = dict(environment or {})
        self.python = python
        self.connections = Connections(settings)
        self.workers: list[Worker] = []
        upgrade(self.connections.engine)

    def start_worker(self, concurrency: int = 1, **environment: str) -> Worker:
        """One more worker."""
        log = self.folder / f"worker{len(self.workers)}.log"
        environment = {**self.environment, **environment}
        worker = Worker(self.settings, log, concurrency=concurrency, environment=environment, python=self.python)
        self.workers.append(worker)
        return worker

    def pipeline(
        self,
        collection: str,
        *steps: Transformation,
        embedder: str = "hashed",
        strategy: str = "upserts",
        vector_store: str = "pgvector",
        connections: Connections | None = None,
    ) -> IngestionPipeline:
        """A pipeline that splits and embeds, after the given steps."""
        return IngestionPipeline(
            collection,
            [*steps, SentenceSplitter(chunk_size=64, chunk_overlap=8), Embed(embedder)],
            docstore_strategy=strategy,
            vector_store=vector_store,
            connections=connections or self.connections,
        )

    @property
    def store(self) -> VectorStore:
        """The vector store of the ledger's Postgres."""
        return open_vector_store("pgvector", self.connections.engine, self.folder / "vectors.sqlite")

    def nodes(self, collection: str) -> list[tuple[str, str]]:
        """(document id, node id) of all nodes of a collection."""
        return list(self.store.node_ids(collection))

    def documents(self, collection: str) -> set[str]:
        """Ids of the documents that the ledger holds of a collection."""
        with begin(self.connections.engine) as connection:
            rows = connection.execute(text("SELECT id FROM documents WHERE collection = :c"), {"c": collection})
            return set(rows.scalars())

    @property
    def redis(self) -> "Redis":
        """The Redis of broker and results."""
        return Redis.from_url(redis_client_url(self.settings.results_redis_url))

    def wait(self, job: Job, seconds: float = 60.0) -> Report:
        """Wait for a job; if it does not end, show what the workers said."""
        try:
            return job.wait(seconds)
        except TimeoutError as error:
            logs = "\n".join(worker.log.read_text(errors="replace")[-3000:] for worker in self.workers)
            raise AssertionError(f"{error}; {job.progress}\n{logs}") from error

    def close(self) -> None:
        """Kill the workers, which would take 2 s to go by themselves, and let go of the servers."""
        for worker in self.workers:
            worker.kill()
        self.connections.close()


def run_docmill(
    arguments: Sequence[str], settings: Mapping[str, str], *, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would, with nothing on its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=_ROOT,
        timeout=timeout,
        check=False,
    )
