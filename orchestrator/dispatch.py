"""Dispatch: a source of documents becomes batches in the ledger, and their messages go to the queue.

A slice is committed to the ledger before its messages are sent: a message without a batch cannot exist, and a batch
without a message is found by the reconciler.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from kombu.exceptions import KombuError
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.batching import BatchPacker
from orchestrator.connections import Connections
from orchestrator.contracts.documents import Document
from orchestrator.contracts.errors import DocmillError
from orchestrator.contracts.failpoints import failpoint
from orchestrator.contracts.logs import get_logger
from orchestrator.contracts.queues import send_finish, send_transforms
from orchestrator.contracts.report import JobState
from orchestrator.contracts.spec import DocstoreStrategy
from orchestrator.contracts.traces import Span, begin_tracing, span
from orchestrator.dedupe import Dedupe, Numbered
from orchestrator.ledger import batches, documents, jobs, window
from orchestrator.ledger.batches import NewBatch
from orchestrator.ledger.engine import begin
from orchestrator.ledger.failures import Failure, record
from orchestrator.ledger.jobs import Finish, JobRow
from orchestrator.slices import slices

__all__ = ["close", "dispatch", "enqueueing", "fill_window"]

_log = get_logger(__name__)
_FLUSH_BYTES = 8 * 1024 * 1024  # compressed payloads held by the client at most, about
_MASS_DELETE_FLOOR = 10  # so few documents may always go: a share of them says nothing


def dispatch(
    connections: Connections,
    job: JobRow,
    source: Iterable[Document],
    *,
    allow_mass_delete: bool,
    on_slice: Callable[[], None] = lambda: None,
) -> None:
    """Read a source to its end, and leave the job to the workers. `on_slice` is called after each slice.

    Raises:
        Exception: whatever the source raises. The job then fails, after what was read is done; nothing is deleted.
    """
    writer = _SliceWriter(connections, job)
    try:
        with _signs_of_life(connections, job.id):
            for documents_of_slice in slices(source, connections.settings.slice_documents):
                if not writer.add(documents_of_slice):
                    break  # cancelled meanwhile
                on_slice()
                del documents_of_slice  # before the next is read: two of them would be twice the memory
            writer.finish_batches()
    except BaseException as error:
        # What was read is ingested all the same, unless it is the ledger that does not answer.
        with suppress(DocmillError, SQLAlchemyError):
            writer.finish_batches()
        with begin(connections.engine) as connection:
            jobs.fail(connection, job.id, f"the source broke off: {type(error).__name__}: {error}")
        close(connections, job.id)
        raise
    failpoint("dispatch.read")
    with begin(connections.engine) as connection:
        may_delete = job.spec.strategy is DocstoreStrategy.UPSERTS_AND_DELETE and (
            allow_mass_delete or _is_modest(connections, connection, job.id)
        )
        jobs.close_listing(connection, job.id, may_delete=may_delete)
    failpoint("dispatch.listed")
    close(connections, job.id)


@contextmanager
def enqueueing(connections: Connections) -> Iterator[Span]:
    """The span of a job that is enqueued, if traces are asked for: its batches will be linked to it.

    Raises:
        ConfigurationError: they are, and cannot be made.
    """
    if connections.settings.traces:
        begin_tracing("docmill-client", joins=True)
    with span("docmill.enqueue", kind="producer") as found:
        yield found


def fill_window(connections: Connections, job: JobRow) -> None:
    """Publish what fits into the job's window. A broker that is away is no error: the ledger has the batches."""
    with begin(connections.engine) as connection:
        published = window.publish_next(connection, job.id, connections.settings.window)
    _send(connections, job, published)


def _send(connections: Connections, job: JobRow, published: Sequence[window.Published]) -> None:
    """Send the messages of batches that the ledger has marked as waiting."""
    failpoint("dispatch.published")
    try:
        send_transforms(connections.app, job.id, published, job.priority)
    except (KombuError, OSError) as error:
        # The reconciler sends the messages once the broker is back.
        _log.warning("publishing failed", job=job.id, batches=len(published), error=error)
    failpoint("dispatch.sent")


def close(connections: Connections, job_id: str) -> None:
    """Finish a job that has nothing left to do; a worker does it where documents must be removed."""
    with begin(connections.engine) as connection:
        outcome = jobs.finish(connection, job_id)
    if outcome is Finish.DELETE:
        failpoint("dispatch.finish_due")
        send_finish(connections.app, job_id)


class _SliceWriter:
    """Takes slices, and writes what dedupe leaves of them."""

    def __init__(self, connections: Connections, job: JobRow) -> None:
        settings = connections.settings
        self.connections = connections
        self.job = job
        self.dedupe = Dedupe(connections.engine, job.spec, job.number, settings.max_document_bytes)
        self.packer = BatchPacker(settings.batch_bytes)
        self.lists = job.spec.strategy is DocstoreStrategy.UPSERTS_AND_DELETE

    def add(self, slice_: list[Numbered]) -> bool:
        """Take one slice; False when the job takes no more."""
        ready: list[NewBatch] = []
        for survivor in self.dedupe.survivors(slice_):
            if survivor is not None:
                ready.extend(self.packer.add(survivor))
            if sum(len(batch.payload) for batch in ready) + self.dedupe.tally.payload_bytes > _FLUSH_BYTES:
                self._write(ready)
                ready = []
        return self._write(ready) is JobState.ENQUEUING

    def finish_batches(self) -> None:
        """Write the last, light batch."""
        self._write(list(self.packer.flush()))

    def _write(self, new: list[NewBatch]) -> JobState:
        """One transaction for all that a slice says, then the messages of the batches that fit the window."""
        tally = self.dedupe.take_tally()
        job_id = self.job.id
        with begin(self.connections.engine) as connection:
            jobs.refuse(connection, job_id, tally.failures)
            self.dedupe.write(connection, job_id, tally, has_rivals=jobs.has_rivals(connection, self.job))
            if self.lists:
                jobs.add_listing(connection, job_id, tally.listed)
            # A document is seen once it is settled or in a batch: what a dead client held back was never accepted.
            state = jobs.add_seen(
                connection,
                job_id,
                seen=tally.unchanged + tally.duplicate + len(tally.failures),
                unchanged=tally.unchanged,
                duplicate=tally.duplicate,
                in_batches=sum(batch.documents for batch in new),
            )
            published: Sequence[window.Published] = []
            if new and state is JobState.ENQUEUING:
                batches.add(connection, job_id, new)
                published = window.publish_next(connection, job_id, self.connections.settings.window)
        failpoint("dispatch.slice_committed")
        if published:  # else commits fill the window
            _send(self.connections, self.job, published)
        return state


def _is_modest(connections: Connections, connection: Connection, job_id: str) -> bool:
    """Whether what vanished is a share of the collection that needs no yes; else it is recorded as refused."""
    gone, total = documents.vanished_count(connection, job_id)
    share = connections.settings.mass_delete_share
    if gone <= _MASS_DELETE_FLOOR or gone <= share * total:
        return True
    message = (
        f"{gone} of {total} documents vanished from the source, more than the allowed share of {share:.0%}: none was "
        "deleted; if this is meant, ingest again with --allow-mass-delete"
    )
    record(connection, job_id, [Failure("*", "delete", "MassDelete", message)])
    return False


@contextmanager
def _signs_of_life(connections: Connections, job_id: str) -> Iterator[None]:
    """Beat for the job while its source is read: a slow source is not a dead client."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(connections.settings.heartbeat):
            try:
                with begin(connections.engine) as connection:
                    jobs.beat(connection, job_id)
            except DocmillError as error:
                _log.warning("heartbeat failed", job=job_id, error=error)

    thread = threading.Thread(target=beat, name="docmill-signs-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
