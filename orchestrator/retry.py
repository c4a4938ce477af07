"""Retry: the failed documents of a job, as they were read, become a new job of the same pipeline."""

import secrets

from sqlalchemy import Connection

from orchestrator.batching import BatchPacker
from orchestrator.connections import Connections
from orchestrator.contracts.errors import EmptySource, PayloadError
from orchestrator.contracts.logs import get_logger
from orchestrator.contracts.payload import BatchDocument, decode_payload
from orchestrator.contracts.report import JobState
from orchestrator.dispatch import close, enqueueing, fill_window
from orchestrator.ledger import batches, jobs, retries
from orchestrator.ledger.batches import NewBatch
from orchestrator.ledger.documents import version_of
from orchestrator.ledger.engine import begin
from orchestrator.ledger.jobs import JobRow
from orchestrator.ledger.retries import Kept, Remainder
from orchestrator.process_user import process_user

__all__ = ["retry"]

_log = get_logger(__name__)
_PAGE = 100  # failures a transaction
_FLUSH_BYTES = 8 * 1024 * 1024  # compressed payloads held by the client at most, about


def retry(connections: Connections, job_id: str, *, started_by: str | None = None) -> str:
    """Enqueue the failed documents of a job again; returns the new job's id.

    A document that a later job has ingested meanwhile is left as it is.

    Args:
        started_by: who asked for it; the user of this process if nobody is named.

    Raises:
        JobNotFound: the ledger does not know the job.
        EmptySource: it has no failed document that could be tried again.
        ServiceUnreachable: the database or the broker does not answer; nothing has been enqueued.
    """
    connections.check()
    with enqueueing(connections) as found:
        job = _enqueue(connections, job_id, started_by or process_user())
        found.set({"docmill.job": job.id, "docmill.collection": job.collection})
    return job.id


def _enqueue(connections: Connections, job_id: str, started_by: str) -> JobRow:
    with begin(connections.engine) as connection:
        old = jobs.get(connection, job_id)
        left = retries.remainder(connection, job_id)
        if not left.kept:
            raise EmptySource(_nothing_to_retry(job_id, left))
        job = jobs.create(
            connection,
            secrets.token_hex(6),
            old.spec,
            priority=old.priority,
            started_by=started_by,
        )
    try:
        _Writer(connections, old, job).write_all()
    except BaseException as error:
        with begin(connections.engine) as connection:
            jobs.fail(connection, job.id, f"the retry broke off: {type(error).__name__}: {error}")
        close(connections, job.id)
        raise
    with begin(connections.engine) as connection:
        jobs.close_listing(connection, job.id, may_delete=False)
    close(connections, job.id)
    return job


def _nothing_to_retry(job_id: str, left: Remainder) -> str:
    lost = left.not_kept + left.dropped
    if not lost:
        return f"job {job_id} has no failed documents"
    return (
        f"job {job_id} has no failed document that was kept; {lost} that it did not ingest must be read again: ingest "
        "their source once more, what is unchanged costs nothing"
    )


class _Writer:
    """Reads what was kept of a job, page by page, and writes it into another."""

    def __init__(self, connections: Connections, old: JobRow, job: JobRow) -> None:
        self.connections = connections
        self.old = old
        self.job = job
        self.packer = BatchPacker(connections.settings.batch_bytes)
        self.read = 0  # number of the last failure that was read

    def write_all(self) -> None:
        """Enqueue every document, or as many as come before the new job is cancelled."""
        while True:
            with begin(self.connections.engine) as connection:
                is_last = self._write_page(connection)
            fill_window(self.connections, self.job)
            if is_last:
                return

    def _write_page(self, connection: Connection) -> bool:
        """One transaction: batches of the next failures. True if there is nothing more to do."""
        seen = 0
        count = 0
        superseded: list[int] = []
        ready: list[NewBatch] = []
        for found in retries.kept(connection, self.old.id, after=self.read, limit=_PAGE):
            self.read = found.failure
            count += 1
            document = self._document(found)
            if document is None:
                continue
            # The document keeps its place in its job: of two with one id the later still wins.
            if found.version is not None and found.version > version_of(self.old.number, document.sequence):
                superseded.append(found.failure)
                continue
            seen += 1
            ready.extend(self.packer.add(document._replace(is_new=found.version is None)))
            if sum(len(batch.payload) for batch in ready) > _FLUSH_BYTES:
                batches.add(connection, self.job.id, ready)
                ready = []
        is_last = not count
        if is_last:
            ready.extend(self.packer.flush())
        retries.supersede(connection, superseded)
        state = jobs.add_seen(connection, self.job.id, seen=0, unchanged=0, duplicate=0, in_batches=seen)
        if state is not JobState.ENQUEUING:
            return True
        batches.add(connection, self.job.id, ready)
        return is_last

    def _document(self, found: Kept) -> BatchDocument | None:
        """The document itself; None if what was kept of it is damaged."""
        try:
            (document,) = decode_payload(found.payload)
        except (PayloadError, ValueError) as error:
            _log.warning("kept document is damaged", job=self.old.id, failure=found.failure, error=error)
            return None
        return document
