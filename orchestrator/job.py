"""Job: one ingestion, seen from outside. All it knows it reads from the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.messages import job_channel
from orchestrator.contracts.report import TERMINAL_JOB_STATES, JobState, Report

if TYPE_CHECKING:
    from orchestrator.connections import Connections
    from orchestrator.contracts.nodes import Node
    from orchestrator.ledger.failures import FailureRow
    from orchestrator.ledger.reports import Progress
    from orchestrator.ledger.retries import Remainder

__all__ = ["Job"]

# Waiters are told by pub/sub; they look by themselves this often, in case the word got lost. Seconds.
_LOOK_EVERY = 1.0


class Job:
    """One ingestion. Made by `IngestionPipeline.enqueue`, or by id for one enqueued elsewhere."""

    def __init__(self, connections: Connections, job_id: str) -> None:
        self.id = job_id
        self._connections = connections

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    @property
    def report(self) -> Report:
        """What the job has done so far; final once its state is.

        Raises:
            JobNotFound: the ledger does not know it.
        """
        from orchestrator.ledger import reports
        from orchestrator.ledger.engine import begin

        with begin(self._connections.engine) as connection:
            return reports.report(connection, self.id)

    @property
    def progress(self) -> Progress:
        """How far the job is, batch by batch."""
        from orchestrator.ledger import reports
        from orchestrator.ledger.engine import begin

        with begin(self._connections.engine) as connection:
            return reports.progress(connection, self.id)

    @property
    def state(self) -> JobState:
        """Where the job stands."""
        from orchestrator.ledger import jobs
        from orchestrator.ledger.engine import begin

        with begin(self._connections.engine) as connection:
            return jobs.get(connection, self.id).state

    def failures(self, limit: int = 1000, offset: int = 0, *, include_resolved: bool = False) -> list[FailureRow]:
        """Documents that were refused, each with stage and reason; also those ingested since, if asked."""
        from orchestrator.ledger.engine import begin
        from orchestrator.ledger.failures import failures_of

        with begin(self._connections.engine) as connection:
            return failures_of(connection, self.id, limit=limit, offset=offset, include_resolved=include_resolved)

    def wait(self, timeout: float | None = None, on_progress: Callable[[Progress], None] | None = None) -> Report:
        """Wait until the job ends.

        Args:
            timeout: seconds to wait at most; None waits for ever.
            on_progress: called when something has changed, and about once a second.

        Raises:
            TimeoutError: the job has not ended in time; it goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._news() as next_news:
            while True:
                state = self.state
                if on_progress is not None:
                    on_progress(self.progress)  # looked at after the state: the last one told is that of the end
                if state in TERMINAL_JOB_STATES:
                    return self.report
                patience = _LOOK_EVERY if deadline is None else min(_LOOK_EVERY, deadline - time.monotonic())
                if patience <= 0:
                    raise TimeoutError(f"job {self.id} is {state} after {timeout} s; it goes on, wait again")
                next_news(patience)

    def nodes(self, timeout: float | None = None) -> Iterator[Node]:
        """The nodes of a job without a vector store, once it has ended: its product, in the order of the source.

        Streamed: a few megabytes at a time, whatever the job's size. They stay with the job until `forget_nodes`, so
        they can be read again. Of a job that failed or was cancelled, those that were committed.

        Args:
            timeout: seconds to wait for the job's end at most; None waits for ever.

        Raises:
            ConfigurationError: the job has a vector store, where its nodes are.
            JobNotFound: the ledger does not know it.
            TimeoutError: the job has not ended in time; it goes on.
        """
        from orchestrator.ledger import jobs
        from orchestrator.ledger.engine import begin

        with begin(self._connections.engine) as connection:
            spec = jobs.get(connection, self.id).spec
        if spec.vector_store is not None:
            raise ConfigurationError(
                f"the nodes of job {self.id} are in the vector store {spec.vector_store!r}, collection "
                f"{spec.collection!r}: search them there; they are the product of pipelines with vector_store=None"
            )
        return self._product(timeout)

    def _product(self, timeout: float | None) -> Iterator[Node]:
        from orchestrator.contracts.packed_nodes import unpack_product
        from orchestrator.ledger import products

        self.wait(timeout)
        for packed in products.stream(self._connections.engine, self.id):
            yield from unpack_product(packed)

    def forget_nodes(self) -> int:
        """Remove the nodes that are the job's product from the ledger; returns of how many documents.

        The documents stay known, and unchanged ones are not made again: read the nodes before.
        """
        from orchestrator.ledger import products
        from orchestrator.ledger.engine import begin

        with begin(self._connections.engine) as connection:
            return products.forget(connection, self.id)

    def cancel(self) -> JobState:
        """Ask the job to stop. What is committed stays; nothing more is. Asking again changes nothing."""
        from orchestrator.dispatch import close
        from orchestrator.ledger import control
        from orchestrator.ledger.engine import begin

        with begin(self._connections.engine) as connection:
            control.cancel(connection, self.id)
        close(self._connections, self.id)
        return self.state

    def pause(self) -> JobState:
        """Begin no more batches; those that run end, and are committed. Asking again changes nothing."""
        from orchestrator.ledger import control
        from orchestrator.ledger.engine import begin

        with begin(self._connections.engine) as connection:
            control.pause(connection, self.id)
        return self.state

    def resume(self) -> JobState:
        """Let a paused job go on. Asking again changes nothing."""
        from orchestrator.dispatch import fill_window
        from orchestrator.ledger import control, jobs
        from orchestrator.ledger.engine import begin

        with begin(self._connections.engine) as connection:
            control.resume(connection, self.id)
            job = jobs.get(connection, self.id)
        fill_window(self._connections, job)
        return self.state

    @property
    def remainder(self) -> Remainder:
        """How many of its documents are not ingested: those that can be retried, and those that cannot.

        Raises:
            JobNotFound: the ledger does not know it.
        """
        from orchestrator.ledger import jobs, retries
        from orchestrator.ledger.engine import begin

        with begin(self._connections.engine) as connection:
            jobs.get(connection, self.id)
            return retries.remainder(connection, self.id)

    def retry_failed(self, *, started_by: str | None = None) -> Job:
        """Try the failed documents again, as they were read, in a new job of the same pipeline.

        Those that were refused when they were read are not part of it: nothing of them was kept. Asking again while
        the new job runs does the same work twice, and changes nothing: the last enqueued wins.

        Args:
            started_by: who asked for it; the user of this process if nobody is named.

        Raises:
            JobNotFound: the ledger does not know this job.
            EmptySource: it has no failed document that could be tried again; the message says what to do.
            ServiceUnreachable: the database or the broker does not answer; nothing has been enqueued.
        """
        from orchestrator.retry import retry

        return Job(self._connections, retry(self._connections, self.id, started_by=started_by))

    @contextmanager
    def _news(self) -> Iterator[Callable[[float], None]]:
        """A function that waits for news of the job, for so many seconds at most."""
        from redis.exceptions import RedisError

        subscription = self._connections.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]

        def next_news(seconds: float) -> None:
            try:
                if not subscription.subscribed:
                    subscription.subscribe(job_channel(self.id))
                subscription.get_message(timeout=seconds)
            except RedisError:
                time.sleep(seconds)  # the ledger answers all the same

        try:
            # Subscribed before the first look: news between the look and the wait is not lost.
            with suppress(RedisError):
                subscription.subscribe(job_channel(self.id))
            yield next_news
        finally:
            subscription.close()
