"""What has stalled is found by the moments in the ledger, and set moving once."""

import pytest

from orchestrator.contracts.report import BatchState, JobState
from orchestrator.ledger import batches, jobs, stalled
from orchestrator.ledger.batches import Lease
from orchestrator.ledger.clock import now
from orchestrator.ledger.payments import Cost
from orchestrator.ledger.window import Published
from tests.ledgers import MAX_ATTEMPTS, STALE_AFTER, Ledger, at_once

_OTHERS_THAN_RUNNING = [state for state in BatchState if state is not BatchState.RUNNING]


def _abandoned(ledger: Ledger) -> dict[str, list[Published]]:
    return ledger.call(stalled.abandoned, stale_after=STALE_AFTER, max_attempts=MAX_ATTEMPTS)


def _exhausted(ledger: Ledger) -> list[Lease]:
    return ledger.call(stalled.exhausted, "reconciler", stale_after=STALE_AFTER, max_attempts=MAX_ATTEMPTS)


def _stale(ledger: Ledger, job_id: str, number: int = 0, *, strikes: int = 0) -> None:
    """A batch whose worker died a moment ago."""
    ledger.leased(job_id, number)
    ledger.change_batch(job_id, number, heartbeat_at=now(-STALE_AFTER - 1), strikes=strikes)


def test_nothing_has_stalled_while_all_goes_well(ledger: Ledger) -> None:
    """Fresh heartbeats, fresh messages and fresh results are left alone."""
    job = ledger.job()
    ledger.batches(job.id, 3)
    ledger.leased(job.id, 0)
    ledger.transformed(job.id, 1)
    before = ledger.rows_of_batches(job.id)
    assert _abandoned(ledger) == {}
    assert _exhausted(ledger) == []
    assert ledger.call(stalled.lost_messages, older_than=10) == {}
    assert ledger.call(stalled.forgotten_commits, older_than=10) == {}
    assert ledger.call(stalled.vanished_clients, stale_after=30) == []
    assert ledger.rows_of_batches(job.id) == before


def test_batch_of_a_dead_worker_is_published_again_with_a_strike(ledger: Ledger) -> None:
    """A running batch without a heartbeat waits again, once, and says why; the dead worker's result counts no more."""
    job = ledger.job()
    ledger.batches(job.id, 2, documents=5)
    held = ledger.leased(job.id)
    ledger.age_batch(job.id, 0, "heartbeat_at", STALE_AFTER + 1)
    ledger.leased(job.id, 1)
    assert _abandoned(ledger) == {job.id: [(0, 5)]}
    found = ledger.batch(job.id)
    assert (found["state"], found["strikes"], found["owner"]) == (BatchState.WAITING, 1, None)
    assert "stopped answering" in found["reason"]
    assert _abandoned(ledger) == {}
    assert not ledger.call(batches.mark_transformed, held, Cost()).counts
    assert ledger.leased(job.id).attempt == 2


@pytest.mark.parametrize("state", _OTHERS_THAN_RUNNING)
def test_old_heartbeat_of_a_batch_that_does_not_run_means_nothing(ledger: Ledger, state: BatchState) -> None:
    """Only running batches are abandoned by their worker."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    _stale(ledger, job.id)
    ledger.change_batch(job.id, state=state)
    assert _abandoned(ledger) == {}
    assert _exhausted(ledger) == []


def test_retry_is_published_when_it_is_due(ledger: Ledger) -> None:
    """A batch to be retried waits for its time, and then runs again without a strike."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    ledger.call(batches.settle, ledger.leased(job.id), BatchState.RETRYING, "no answer", retry_in=30)
    assert _abandoned(ledger) == {}
    ledger.age_batch(job.id, 0, "retry_at", 1)
    assert _abandoned(ledger) == {job.id: [(0, 2)]}
    found = ledger.batch(job.id)
    assert (found["state"], found["strikes"], found["reason"]) == (BatchState.WAITING, 0, "no answer")


def test_abandoned_batches_of_many_jobs_are_told_apart(ledger: Ledger) -> None:
    """The dead and the due of one job come together, those of another job under its own id."""
    first, second = ledger.job(), ledger.job()
    for job in (first, second):
        ledger.batches(job.id, 2)
        _stale(ledger, job.id, 1)
    ledger.call(batches.settle, ledger.leased(first.id), BatchState.RETRYING, "why", retry_in=-1)
    found = _abandoned(ledger)
    assert {id: sorted(numbers) for id, numbers in found.items()} == {first.id: [(0, 2), (1, 2)], second.id: [(1, 2)]}


def test_batch_that_killed_its_workers_is_leased_to_the_reconciler(ledger: Ledger) -> None:
    """After the last allowed attempt a dead batch is published no more: the reconciler gets it, to take it apart."""
    job = ledger.job()
    ledger.batches(job.id, 2)
    _stale(ledger, job.id, 0, strikes=MAX_ATTEMPTS - 1)
    _stale(ledger, job.id, 1, strikes=MAX_ATTEMPTS - 2)
    assert [batch for batch, _ in _abandoned(ledger)[job.id]] == [1]
    (held,) = _exhausted(ledger)
    assert (held.number, held.owner, held.attempt, held.payload) == (0, "reconciler", 2, b"payload")
    assert _exhausted(ledger) == []
    assert ledger.call(batches.settle, held, BatchState.HALVED, "why")


@pytest.mark.parametrize("state", [BatchState.WAITING, BatchState.RETRYING])
def test_batch_with_too_many_strikes_does_not_wait_for_ever(ledger: Ledger, state: BatchState) -> None:
    """A batch that no worker may lease any more is not left waiting: the reconciler gets it."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    ledger.change_batch(job.id, state=state, strikes=MAX_ATTEMPTS, retry_at=now(-1))
    assert ledger.lease(job.id) is None
    assert _abandoned(ledger) == {}
    assert [held.number for held in _exhausted(ledger)] == [0]


def test_every_stale_batch_is_either_abandoned_or_exhausted(ledger: Ledger) -> None:
    """Whatever its strikes, a batch whose worker died is taken by exactly one of the two looks."""
    job = ledger.job()
    ledger.batches(job.id, MAX_ATTEMPTS + 2)
    for strikes in range(MAX_ATTEMPTS + 2):
        _stale(ledger, job.id, strikes, strikes=strikes)
    again = [batch.number for batch in _abandoned(ledger)[job.id]]
    apart = [held.number for held in _exhausted(ledger)]
    assert sorted(again + apart) == list(range(MAX_ATTEMPTS + 2))
    assert sorted(again) == list(range(MAX_ATTEMPTS - 1))


def test_lost_message_is_published_again(ledger: Ledger) -> None:
    """A batch that waits although its message is old is published again, and its clock starts anew."""
    job = ledger.job()
    ledger.batches(job.id, 3)
    ledger.age_batch(job.id, 0, "published_at", 11)
    ledger.age_batch(job.id, 1, "published_at", 9)
    ledger.leased(job.id, 2)
    ledger.age_batch(job.id, 2, "published_at", 11)
    assert ledger.call(stalled.lost_messages, older_than=10) == {job.id: [(0, 2)]}
    assert ledger.call(stalled.lost_messages, older_than=10) == {}
    assert ledger.states(job.id) == [BatchState.WAITING, BatchState.WAITING, BatchState.RUNNING]


def test_batch_that_was_never_published_has_no_lost_message(ledger: Ledger) -> None:
    """Pending batches wait for room in the window, not for a message."""
    job = ledger.job()
    ledger.batches(job.id, 1, waiting=False)
    assert ledger.call(stalled.lost_messages, older_than=-60) == {}


def test_reconcilers_at_once_publish_a_batch_once(ledger: Ledger) -> None:
    """Of two looks at the same moment, one finds the batch."""
    job = ledger.job()
    ledger.batches(job.id, 20)
    for number in range(20):
        _stale(ledger, job.id, number)
    found = at_once(4, lambda _: _abandoned(ledger))
    numbers = [batch.number for part in found for batch in part.get(job.id, [])]
    assert sorted(numbers) == list(range(20))
    assert {row["strikes"] for row in ledger.rows_of_batches(job.id)} == {1}


def test_forgotten_commits_are_found_and_left_as_they_are(ledger: Ledger) -> None:
    """Batches that were transformed a while ago are named by job; looking changes nothing."""
    job = ledger.job()
    ledger.batches(job.id, 4)
    ledger.transformed(job.id, 0, 1, 3)
    for number in (1, 2, 3):
        ledger.age_batch(job.id, number, "transformed_at", 9)
    before = ledger.rows_of_batches(job.id)
    assert ledger.call(stalled.forgotten_commits, older_than=8) == {job.id: [1, 3]}
    assert ledger.rows_of_batches(job.id) == before


@pytest.mark.parametrize("state", list(JobState))
def test_client_has_vanished_when_it_beats_no_more_while_enqueuing(ledger: Ledger, state: JobState) -> None:
    """Only a job whose source is still being read can lose its client; a beat in time keeps it."""
    job = ledger.job(state=state)
    ledger.change_job(job.id, heartbeat_at=now(-31))
    expected = [job.id] if state is JobState.ENQUEUING else []
    assert ledger.call(stalled.vanished_clients, stale_after=30) == expected
    ledger.call(jobs.beat, job.id)
    assert ledger.call(stalled.vanished_clients, stale_after=30) == []


def test_open_jobs_come_oldest_first_and_say_whether_batches_are_open(ledger: Ledger) -> None:
    """Jobs that are not ended are listed with their state; an ended batch is no open one."""
    made = {state: ledger.job(state=state) for state in JobState}
    ledger.batches(made[JobState.RUNNING].id, 1)
    ledger.batches(made[JobState.CANCELLING].id, 1)
    ledger.change_batch(made[JobState.CANCELLING].id, state=BatchState.COMMITTED)
    assert ledger.call(stalled.open_jobs) == [
        (made[JobState.ENQUEUING].id, JobState.ENQUEUING, False, False),
        (made[JobState.RUNNING].id, JobState.RUNNING, False, True),
        (made[JobState.CANCELLING].id, JobState.CANCELLING, False, False),
    ]
