"""Totals: what all jobs come to, read again and again at the cost of the jobs that are open."""

from orchestrator.contracts.report import BatchState, JobState
from orchestrator.ledger.payments import Cost, Payment
from orchestrator.ledger.totals import Totals, TotalsReader
from tests.ledgers import Ledger

_COST = Cost([Payment("small", "title_extractor", False, prompt=30, completion=4)], cache_hits=2, cache_misses=5)


def _ended(ledger: Ledger) -> str:
    """A finished job of one batch, committed, with three documents unchanged."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    ledger.transformed(job.id, 0, cost=_COST)
    ledger.change_batch(job.id, 0, state=BatchState.COMMITTED, documents_new=2, nodes_upserted=9)
    ledger.change_job(job.id, state=JobState.SUCCEEDED, unchanged=3)
    return job.id


def test_an_empty_ledger_comes_to_nothing(ledger: Ledger) -> None:
    """Without a job every sum is 0, and nothing waits."""
    assert ledger.call(TotalsReader().read) == Totals()


def test_open_and_finished_jobs_are_summed(ledger: Ledger) -> None:
    """Documents, nodes, tokens and look-ups are summed over all jobs; jobs and batches are counted by state."""
    _ended(ledger)
    job = ledger.job()
    ledger.batches(job.id, 3)
    ledger.transformed(job.id, 1, cost=_COST)
    totals = ledger.call(TotalsReader().read)
    assert totals.jobs == {JobState.SUCCEEDED: 1, JobState.ENQUEUING: 1}
    assert totals.batches == {BatchState.COMMITTED: 1, BatchState.WAITING: 2, BatchState.TRANSFORMED: 1}
    assert (totals.documents["new"], totals.documents["unchanged"], totals.nodes["upserted"]) == (2, 3, 9)
    assert (totals.tokens["small", "prompt"], totals.tokens["small", "completion"]) == (60, 8)
    assert (totals.cache["hit"], totals.cache["miss"]) == (4, 10)


def test_a_finished_job_is_summed_once(ledger: Ledger) -> None:
    """A reader adds a job when it finishes, never twice, and does not ask for it again; a new reader says the same."""
    reader = TotalsReader()
    first = _ended(ledger)
    job = ledger.job()
    ledger.batches(job.id, 1)
    before = ledger.call(reader.read)
    ledger.change_batch(job.id, 0, state=BatchState.COMMITTED, documents_new=2, nodes_upserted=1)
    ledger.change_job(job.id, state=JobState.SUCCEEDED)
    after = [ledger.call(reader.read) for _ in range(3)]
    assert before.nodes["upserted"] == 9
    assert [totals.nodes["upserted"] for totals in after] == [10, 10, 10]
    assert after[-1] == ledger.call(TotalsReader().read)
    ledger.change_batch(first, 0, nodes_upserted=1000)
    assert ledger.call(reader.read).nodes["upserted"] == 10


def test_a_job_that_appears_late_is_not_missed(ledger: Ledger) -> None:
    """A job whose number is lower than one already summed is summed too: its transaction took longer."""
    job = ledger.job()
    _ended(ledger)
    reader = TotalsReader()
    number = ledger.job_row(job.id)["number"]
    ledger.change_job(job.id, number=number + 10_000)  # as if it had not been there
    ledger.change_job(job.id, state=JobState.FAILED)
    assert ledger.call(reader.read).jobs == {JobState.SUCCEEDED: 1, JobState.FAILED: 1}
    late = _ended(ledger)
    ledger.change_job(late, number=number + 9_500)
    assert ledger.call(reader.read).jobs == {JobState.SUCCEEDED: 2, JobState.FAILED: 1}


def test_the_oldest_waiting_batch(ledger: Ledger) -> None:
    """What has waited longest for a worker or a commit is told in seconds; what is paused or not due does not count."""
    job, paused = ledger.job(), ledger.job()
    ledger.batches(job.id, 4)
    ledger.batches(paused.id, 1)
    ledger.age_batch(job.id, 0, "published_at", 40)
    ledger.age_batch(paused.id, 0, "published_at", 4000)
    ledger.change_job(paused.id, paused=True)
    assert 40 <= ledger.call(TotalsReader().read).oldest_waiting < 60
    ledger.transformed(job.id, 1)
    ledger.age_batch(job.id, 1, "transformed_at", 100)
    assert 100 <= ledger.call(TotalsReader().read).oldest_waiting < 120
    ledger.change_batch(job.id, 2, state=BatchState.RETRYING)
    ledger.age_batch(job.id, 2, "retry_at", 200)
    assert 200 <= ledger.call(TotalsReader().read).oldest_waiting < 220
    ledger.age_batch(job.id, 2, "retry_at", -500)
    assert 100 <= ledger.call(TotalsReader().read).oldest_waiting < 120
    ledger.change_job(job.id, state=JobState.CANCELLED)
    assert ledger.call(TotalsReader().read).oldest_waiting == 0
