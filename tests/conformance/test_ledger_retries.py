"""Failed documents are kept with their failures, resolved by commits, and counted."""

from orchestrator.contracts.report import BatchState
from orchestrator.ledger import retries
from orchestrator.ledger.failures import Failure, failures_of, record, resolve
from orchestrator.ledger.retries import Kept, Remainder
from tests.ledgers import Ledger, row


def _failures(*ids: str) -> list[Failure]:
    return [Failure(id, "transform", "RuntimeError", "why") for id in ids]


def _unresolved(ledger: Ledger, job_id: str) -> list[str]:
    return [found.document_id for found in ledger.call(failures_of, job_id, include_resolved=False)]


def _kept(ledger: Ledger, job_id: str, after: int = 0, limit: int = 10) -> list[Kept]:
    return ledger.call(lambda connection: list(retries.kept(connection, job_id, after=after, limit=limit)))


def test_a_commit_resolves_the_failures_of_its_documents(ledger: Ledger) -> None:
    """Failures of the same documents and collection are resolved with their payloads gone; all others stay."""
    first, other = ledger.job(), ledger.job()
    later = ledger.job()
    ledger.call(record, first.id, _failures("a", "b"), payloads={"a": b"A", "b": b"B"})
    ledger.call(record, later.id, _failures("a"), payloads={"a": b"newer"})
    assert ledger.call(resolve, "another collection", later.number, ["a"]) == 0
    assert ledger.call(resolve, "handbook", other.number, ["a", "x"]) == 1
    assert _unresolved(ledger, first.id) == ["b"]
    assert _unresolved(ledger, later.id) == ["a"]  # what the later job read is newer than what was committed
    resolved, still = ledger.call(failures_of, first.id)
    assert resolved.resolved_at is not None
    assert (resolved.can_retry, still.resolved_at, still.can_retry) == (False, None, True)
    assert ledger.call(resolve, "handbook", later.number, ["a"]) == 1
    assert ledger.call(resolve, "handbook", later.number, ["a"]) == 0


def test_many_documents_are_resolved_within_the_databases_limits(ledger: Ledger) -> None:
    """A commit of more documents than a statement takes parameters resolves what it must."""
    job = ledger.job()
    ledger.call(record, job.id, _failures("d69999"))
    assert ledger.call(resolve, "handbook", job.number, [f"d{number}" for number in range(70_000)]) == 1


def test_the_longest_id_allowed_is_kept_whole(ledger: Ledger) -> None:
    """A failure is found again by its document's id, however long an id may be."""
    job = ledger.job()
    ids = ["x" * 1024, "é" * 512, "\U0001d11e" * 256]
    ledger.call(record, job.id, _failures(*ids))
    assert _unresolved(ledger, job.id) == ids
    assert ledger.call(resolve, "handbook", job.number, ids) == 3


def test_kept_documents_come_page_by_page_with_what_the_ledger_knows(ledger: Ledger) -> None:
    """Only unresolved failures with a payload come, in order, with the version of their document's row."""
    job = ledger.job()
    ledger.write(row("b", version=7))
    ledger.call(record, job.id, _failures("a", "b", "refused", "c"), payloads={"a": b"A", "b": b"B", "c": b"C"})
    found = _kept(ledger, job.id, limit=2)
    assert [(each.payload, each.version) for each in found] == [(b"A", None), (b"B", 7)]
    (last,) = _kept(ledger, job.id, after=found[-1].failure)
    assert (last.payload, last.version) == (b"C", None)
    ledger.call(retries.supersede, [found[1].failure])
    assert [each.payload for each in _kept(ledger, job.id)] == [b"A", b"C"]
    assert _unresolved(ledger, job.id) == ["a", "refused", "c"]


def test_what_is_not_ingested_is_counted_by_what_can_be_done(ledger: Ledger) -> None:
    """Kept, refused at reading, and let go with cancelled batches are three numbers; a resolved one is in none."""
    job = ledger.job()
    assert ledger.call(retries.remainder, job.id) == Remainder(0, 0, 0)
    ledger.batches(job.id, 4, documents=2)
    ledger.change_job(job.id, failed=1)
    ledger.change_batch(job.id, 0, state=BatchState.FAILED, documents_failed=2)
    ledger.change_batch(job.id, 1, state=BatchState.CANCELLED)
    ledger.call(record, job.id, _failures("a", "b"), payloads={"a": b"A", "b": b"B"})
    ledger.call(record, job.id, _failures("refused"))
    assert ledger.call(retries.remainder, job.id) == Remainder(2, 1, 2)
    ledger.call(resolve, "handbook", job.number, ["a"])
    assert ledger.call(retries.remainder, job.id) == Remainder(1, 1, 2)


def test_documents_of_a_job_that_broke_are_counted_as_let_go(ledger: Ledger) -> None:
    """One failure stands for a job that broke; its documents are counted all the same."""
    job = ledger.job()
    ledger.batches(job.id, 3, documents=2)
    ledger.change_batches(job.id, state=BatchState.FAILED, documents_failed=2)
    ledger.call(record, job.id, _failures("*"))
    assert ledger.call(retries.remainder, job.id) == Remainder(0, 0, 6)
