"""One ingestion without workers: slices go through dedupe into a real ledger, and commits are written as workers do."""

from collections.abc import Sequence
from typing import Any

from orchestrator.contracts.documents import Document
from orchestrator.contracts.payload import BatchDocument
from orchestrator.contracts.spec import PipelineSpec
from orchestrator.dedupe import Dedupe, SliceTally
from orchestrator.ledger import aliases, documents
from orchestrator.ledger.documents import DocumentRow, version_of
from orchestrator.ledger.jobs import JobRow, refuse
from tests.ledgers import Ledger, pipeline_spec

__all__ = ["MAX_BYTES", "Run", "ingested", "text_document"]

MAX_BYTES = 1000  # of a document


class Run:
    """One job: slices go in, and what dedupe leaves is committed as workers would."""

    def __init__(self, ledger: Ledger, spec: PipelineSpec | None = None, *, has_rivals: bool = False) -> None:
        self.ledger = ledger
        self.job: JobRow = ledger.job(spec or pipeline_spec())
        self.dedupe = Dedupe(ledger.engine, self.job.spec, self.job.number, MAX_BYTES)
        self.has_rivals = has_rivals
        self.sequence = 0
        self.survivors: list[BatchDocument] = []

    def take(self, *found: Document) -> SliceTally:
        """Take a slice, and write its tally."""
        numbered = list(enumerate(found, self.sequence))
        self.sequence += len(found)
        self.survivors = [document for document in self.dedupe.survivors(numbered) if document is not None]
        tally = self.dedupe.take_tally()
        self.ledger.call(refuse, self.job.id, tally.failures)
        self.ledger.call(self.dedupe.write, self.job.id, tally, has_rivals=self.has_rivals)
        return tally

    def commit(self, survivors: Sequence[BatchDocument] | None = None) -> set[str]:
        """Commit documents as a worker does; returns the ids that were written."""
        rows = [
            DocumentRow(
                document.id,
                document.content_hash,
                document.body_hash,
                document.stamp,
                None,
                1,
                version_of(self.job.number, document.sequence),
            )
            for document in (self.survivors if survivors is None else survivors)
        ]
        spec = self.job.spec
        written = set(self.ledger.call(documents.claim, spec.collection, spec.fingerprint, self.job.id, rows))
        self.ledger.call(aliases.promote, self.job, written)
        return written

    @property
    def ids(self) -> list[str]:
        """Ids of the last slice's survivors."""
        return [document.id for document in self.survivors]


def ingested(ledger: Ledger, *found: Document, spec: PipelineSpec | None = None) -> Run:
    """A job that took these documents and committed them."""
    run = Run(ledger, spec)
    run.take(*found)
    run.commit()
    return run


def text_document(id: str, text: str, **metadata: Any) -> Document:
    return Document(id=id, text=text, metadata=metadata)
