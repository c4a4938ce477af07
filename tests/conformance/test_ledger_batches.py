"""Batches and their leases: given once, fenced by the attempt, published within a window."""

from collections import Counter
from functools import partial

import pytest

from orchestrator.contracts.report import BatchState, JobState
from orchestrator.ledger import batches, control, jobs, window
from orchestrator.ledger.batches import BatchOutcome, Lease, Marked, NewBatch
from orchestrator.ledger.engine import begin
from orchestrator.ledger.payments import Cost, Payment
from tests.ledgers import MAX_ATTEMPTS, STALE_AFTER, Ledger, at_once

_COST = Cost(
    [Payment("small", "title_extractor", False, embedding=7, prompt=3, completion=2)], cache_hits=5, cache_misses=1
)
_ENDED = [BatchState.COMMITTED, BatchState.HALVED, BatchState.FAILED, BatchState.CANCELLED]


def _numbers(published: list[window.Published]) -> list[int]:
    return [batch.number for batch in published]


def test_batches_are_numbered_from_zero_without_a_gap(ledger: Ledger) -> None:
    """Batches get the job's next numbers in the order they are given, and wait as pending with their payload."""
    job = ledger.job()
    ledger.call(batches.add, job.id, [NewBatch(b"a", 1, 10), NewBatch(b"b", 2, 20)])
    ledger.call(batches.add, job.id, [])
    ledger.call(batches.add, job.id, [NewBatch(b"c", 3, 30)])
    found = ledger.rows_of_batches(job.id)
    assert [(row["number"], row["payload"], row["documents"], row["weight"]) for row in found] == [
        (0, b"a", 1, 10),
        (1, b"b", 2, 20),
        (2, b"c", 3, 30),
    ]
    assert ledger.states(job.id) == [BatchState.PENDING] * 3
    assert ledger.job_row(job.id)["batches_total"] == 3


def test_numbers_stay_contiguous_when_many_add_at_once(ledger: Ledger) -> None:
    """Client and workers that add batches to one job at the same moment get different numbers, without a gap."""
    job = ledger.job()
    at_once(6, lambda _: ledger.batches(job.id, 5, waiting=False))
    assert [row["number"] for row in ledger.rows_of_batches(job.id)] == list(range(30))


def test_thousand_batches_are_added_in_two_statements(ledger: Ledger) -> None:
    """Batches are added in bulk."""
    job = ledger.job()
    with ledger.statements() as sent:
        ledger.batches(job.id, 1000, waiting=False)
    assert len(sent) == 2


def test_publishing_fills_the_window_and_no_more(ledger: Ledger) -> None:
    """Batches are published in order until the window is full of unfinished ones; an ended one makes room for one."""
    job = ledger.job()
    ledger.batches(job.id, 6, waiting=False)
    assert _numbers(ledger.call(window.publish_next, job.id, 3)) == [0, 1, 2]
    assert ledger.call(window.publish_next, job.id, 3) == []
    for number, state in ((0, BatchState.RUNNING), (1, BatchState.RETRYING), (2, BatchState.TRANSFORMED)):
        ledger.change_batch(job.id, number, state=state)
    assert ledger.call(window.publish_next, job.id, 3) == []
    ledger.change_batch(job.id, 1, state=BatchState.COMMITTED)
    assert _numbers(ledger.call(window.publish_next, job.id, 3)) == [3]
    assert _numbers(ledger.call(window.publish_next, job.id, 10)) == [4, 5]
    assert ledger.batch(job.id, 5)["published_at"] is not None


def test_each_job_has_a_window_of_its_own(ledger: Ledger) -> None:
    """A big job that fills its window does not keep another from publishing."""
    big, small = ledger.job(), ledger.job()
    ledger.batches(big.id, 9, waiting=False)
    ledger.batches(small.id, 2, waiting=False)
    ledger.call(window.publish_next, big.id, 4)
    assert _numbers(ledger.call(window.publish_next, small.id, 4)) == [0, 1]


def test_window_holds_and_no_batch_is_published_twice_when_many_publish_at_once(ledger: Ledger) -> None:
    """Of many workers that fill a window at the same moment, each publishes other batches, and it is not overfilled."""
    job = ledger.job()
    ledger.batches(job.id, 40, waiting=False)
    published = at_once(8, lambda _: ledger.call(window.publish_next, job.id, 10))
    numbers = [batch.number for part in published for batch in part]
    assert Counter(numbers) == Counter(range(10))
    assert Counter(ledger.states(job.id)) == {BatchState.WAITING: 10, BatchState.PENDING: 30}


def test_lease_is_given_with_what_is_needed_to_run(ledger: Ledger) -> None:
    """A waiting batch is leased as attempt 1, with its payload."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    held = ledger.leased(job.id, owner="me")
    assert (held.attempt, held.strikes, held.retries, held.payload) == (1, 0, 0, b"payload")
    row = ledger.batch(job.id)
    assert (row["state"], row["owner"]) == (BatchState.RUNNING, "me")
    assert row["heartbeat_at"] is not None
    assert row["started_at"] is not None


def test_lease_is_given_once(ledger: Ledger) -> None:
    """Of many workers that take the same message at the same moment, one gets the batch."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    leases = at_once(8, lambda index: ledger.lease(job.id, owner=f"worker {index}"))
    assert sum(lease is not None for lease in leases) == 1
    assert ledger.batch(job.id)["attempt"] == 1


def test_lease_of_a_living_worker_is_not_taken_over(ledger: Ledger) -> None:
    """While the owner's heartbeat is fresh nobody else gets the batch, not even the owner once more."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    ledger.leased(job.id, owner="me")
    ledger.age_batch(job.id, 0, "heartbeat_at", STALE_AFTER - 3)
    assert ledger.lease(job.id, owner="other") is None
    assert ledger.lease(job.id, owner="me") is None


def test_lease_of_a_dead_worker_is_taken_over_with_a_strike(ledger: Ledger) -> None:
    """When the heartbeat is stale the next worker gets the batch, under a new attempt and with a strike."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    ledger.leased(job.id, owner="dead")
    ledger.age_batch(job.id, 0, "heartbeat_at", STALE_AFTER + 1)
    leases = [lease for lease in at_once(4, lambda index: ledger.lease(job.id, owner=f"{index}")) if lease]
    assert [(lease.attempt, lease.strikes) for lease in leases] == [(2, 1)]
    assert ledger.batch(job.id)["owner"] == leases[0].owner


def test_lease_is_refused_after_too_many_strikes(ledger: Ledger) -> None:
    """A batch that has killed its worker too often is leased to no worker again."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert ledger.leased(job.id).attempt == attempt
        ledger.age_batch(job.id, 0, "heartbeat_at", STALE_AFTER + 1)
    assert ledger.lease(job.id) is None


@pytest.mark.parametrize("state", [state for state in JobState if state not in (JobState.ENQUEUING, JobState.RUNNING)])
def test_lease_is_refused_when_the_job_is_not_at_work(ledger: Ledger, state: JobState) -> None:
    """Nothing of a job that is being cancelled, or has ended, is leased."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    ledger.change_job(job.id, state=state)
    assert ledger.lease(job.id) is None


@pytest.mark.parametrize("state", [*_ENDED, BatchState.TRANSFORMED])
def test_lease_is_refused_when_the_batch_is_done(ledger: Ledger, state: BatchState) -> None:
    """A message delivered again for a batch that is done, or waits for its commit, gives nothing to run."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    ledger.change_batch(job.id, state=state)
    assert ledger.lease(job.id) is None
    assert ledger.lease(job.id, 99) is None
    assert ledger.lease("0" * 12) is None


def test_heartbeat_is_for_the_running_leases_of_its_owner(ledger: Ledger) -> None:
    """A beat keeps the owner's running batches alive, and nobody else's."""
    job = ledger.job()
    ledger.batches(job.id, 3)
    for number, owner in enumerate(("me", "me", "other")):
        ledger.leased(job.id, number, owner)
        ledger.age_batch(job.id, number, "heartbeat_at", 3600)
    ledger.change_batch(job.id, 1, state=BatchState.TRANSFORMED)
    before = ledger.batch(job.id, 2)["heartbeat_at"]
    assert ledger.call(batches.heartbeat, "me") == 1
    assert (ledger.batch(job.id)["heartbeat_at"] - before).total_seconds() > 3590
    assert ledger.batch(job.id, 2)["heartbeat_at"] == before
    assert ledger.lease(job.id, 0, "third") is None
    assert ledger.lease(job.id, 2, "third") is not None


def test_result_of_the_latest_attempt_counts_with_what_it_cost(ledger: Ledger) -> None:
    """The holder of the lease hands its result over, once, and what it looked up is added up."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    held = ledger.leased(job.id)
    assert ledger.call(batches.mark_transformed, held, _COST).counts
    assert not ledger.call(batches.mark_transformed, held, _COST).counts
    row = ledger.batch(job.id)
    assert row["state"] == BatchState.TRANSFORMED
    assert (row["cache_hits"], row["cache_misses"]) == (5, 1)


@pytest.mark.parametrize("state", [BatchState.RETRYING, BatchState.HALVED, BatchState.FAILED])
def test_attempt_that_lost_its_lease_changes_nothing(ledger: Ledger, state: BatchState) -> None:
    """A worker that was given up and comes back cannot hand over, retry, halve or fail the batch of another."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    lost = ledger.leased(job.id, owner="slow")
    ledger.age_batch(job.id, 0, "heartbeat_at", STALE_AFTER + 1)
    ledger.leased(job.id, owner="fast")
    before = ledger.batch(job.id)
    assert not ledger.call(batches.mark_transformed, lost, _COST).counts
    assert not ledger.call(batches.settle, lost, state, "reason", cost=_COST)
    assert ledger.batch(job.id) == before


def test_retry_keeps_the_payload_and_says_when_and_why(ledger: Ledger) -> None:
    """A batch to be retried gives its lease back, counts a retry and not a strike, and can be leased again."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    held = ledger.leased(job.id)
    assert ledger.call(batches.settle, held, BatchState.RETRYING, "no answer", retry_in=60.0, cost=_COST)
    row = ledger.batch(job.id)
    assert (row["state"], row["reason"], row["owner"], row["retries"], row["strikes"]) == (
        BatchState.RETRYING,
        "no answer",
        None,
        1,
        0,
    )
    assert 55 < (row["retry_at"] - row["started_at"]).total_seconds() < 65
    again = ledger.leased(job.id)
    assert (again.attempt, again.retries, again.payload) == (2, 1, b"payload")
    assert ledger.call(batches.mark_transformed, again, _COST).counts
    assert ledger.batch(job.id)["cache_hits"] == 10
    assert ledger.batch(job.id)["reason"] is None


@pytest.mark.parametrize(("state", "failed"), [(BatchState.HALVED, 0), (BatchState.FAILED, 2)])
def test_batch_that_ends_without_a_result_drops_its_payload(ledger: Ledger, state: BatchState, failed: int) -> None:
    """A batch that is halved hands its documents on; one that failed counts all of its documents as failed."""
    job = ledger.job()
    ledger.batches(job.id, 1, documents=2)
    assert ledger.call(batches.settle, ledger.leased(job.id), state, "why", cost=_COST)
    row = ledger.batch(job.id)
    assert (row["state"], row["payload"], row["documents_failed"]) == (state, None, failed)
    assert row["finished_at"] is not None
    assert (row["cache_hits"], row["cache_misses"]) == (5, 1)


@pytest.mark.parametrize("reason", ["a\x00b", "a\ud800b", "x" * 1_000_000], ids=["NUL", "surrogate", "a million"])
def test_any_reason_can_be_written(ledger: Ledger, reason: str) -> None:
    """The reason of a batch is anybody's error: characters that no database takes do not keep it from ending."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    assert ledger.call(batches.settle, ledger.leased(job.id), BatchState.FAILED, reason)
    found = ledger.batch(job.id)["reason"]
    assert found[0] == reason[0]
    assert len(found) <= 2000


def test_batches_whose_nodes_are_lost_run_again(ledger: Ledger) -> None:
    """Transformed batches are put back to wait, without a strike and with the reason; others stay as they are."""
    job = ledger.job()
    ledger.batches(job.id, 3, documents=4)
    ledger.transformed(job.id, 0, 1)
    assert ledger.call(window.put_back, job.id, [1, 2, 99], "lost") == [(1, 4)]
    assert ledger.states(job.id) == [BatchState.TRANSFORMED, BatchState.WAITING, BatchState.WAITING]
    row = ledger.batch(job.id, 1)
    assert (row["strikes"], row["reason"], row["owner"]) == (0, "lost", None)
    assert ledger.leased(job.id, 1).attempt == 2
    assert ledger.call(window.put_back, job.id, [], "lost") == []


def test_batch_that_cannot_be_committed_is_reclaimed_once(ledger: Ledger) -> None:
    """Of many commits that fail on one transformed batch, one gets it back to take it apart, and no other."""
    job = ledger.job()
    ledger.batches(job.id, 2)
    ledger.transformed(job.id, 0)
    leases = at_once(4, lambda index: ledger.call(batches.reclaim, job.id, 0, f"worker {index}"))
    assert [(held.attempt, held.payload) for held in leases if held] == [(2, b"payload")]
    assert ledger.call(batches.reclaim, job.id, 1, "worker") is None


def test_only_transformed_batches_wait_for_a_commit(ledger: Ledger) -> None:
    """A commit gets the batches that are transformed, each with the attempt that counts."""
    job = ledger.job()
    ledger.batches(job.id, 4)
    ledger.transformed(job.id, 0, 2)
    ledger.leased(job.id, 1)
    ledger.change_batch(job.id, 2, attempt=5)
    assert ledger.call(batches.lock_transformed, job.id, [2, 1, 0, 3, 99]) == {0: 1, 2: 5}
    assert ledger.call(batches.lock_transformed, job.id, []) == {}


@pytest.mark.parametrize("state", [JobState.CANCELLING, JobState.CANCELLED])
def test_nothing_of_a_cancelled_job_is_committed(ledger: Ledger, state: JobState) -> None:
    """Once a job is asked to stop, its transformed batches wait for no commit."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    ledger.transformed(job.id, 0)
    ledger.change_job(job.id, state=state)
    assert ledger.call(batches.lock_transformed, job.id, [0]) == {}


def test_commit_writes_the_counts_and_drops_the_payloads(ledger: Ledger) -> None:
    """Committed batches carry their counts, lose their payloads and owners, and no other batch is touched."""
    job = ledger.job()
    ledger.batches(job.id, 3)
    ledger.transformed(job.id, 0, 1, 2)
    outcome = BatchOutcome(1, 3, 2, 1, 4, nodes_upserted=50).with_removed(7)
    ledger.call(batches.commit, job.id, [BatchOutcome(0), outcome])
    assert ledger.states(job.id) == [BatchState.COMMITTED, BatchState.COMMITTED, BatchState.TRANSFORMED]
    row = ledger.batch(job.id, 1)
    assert [row[f"documents_{name}"] for name in ("new", "changed", "failed", "duplicate")] == [3, 2, 1, 4]
    assert (row["nodes_upserted"], row["nodes_removed"]) == (50, 7)
    assert (row["payload"], row["owner"]) == (None, None)
    assert row["finished_at"] is not None
    assert ledger.batch(job.id, 2)["payload"] == b"payload"


def test_commit_of_nothing_is_nothing(ledger: Ledger) -> None:
    """A commit whose nodes are all lost commits no batch, and does not fail."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    ledger.transformed(job.id, 0)
    ledger.call(batches.commit, job.id, [])
    assert ledger.states(job.id) == [BatchState.TRANSFORMED]


@pytest.mark.parametrize(
    ("state", "expected"),
    [(state, state in (BatchState.WAITING, BatchState.RUNNING)) for state in BatchState],
)
def test_batches_on_the_way_wait_or_run(ledger: Ledger, state: BatchState, expected: bool) -> None:
    """A segment waits for batches that wait for a worker or run, and for no others."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    ledger.change_batch(job.id, state=state)
    assert ledger.call(batches.any_on_the_way, job.id) is expected


def test_a_batch_that_ends_hears_whether_others_wait(ledger: Ledger) -> None:
    """Who hands over a batch hears whether others of its job wait for a worker: no other job's, and none that runs."""
    job = ledger.job()
    ledger.batches(job.id, 3)
    ledger.batches(ledger.job().id, 1)
    held = [ledger.leased(job.id, 0), ledger.leased(job.id, 1)]
    assert ledger.call(batches.mark_transformed, held[0], Cost()) == Marked(counts=True, others_wait=True)
    ledger.leased(job.id, 2)
    assert ledger.call(batches.mark_transformed, held[1], Cost()) == Marked(counts=True, others_wait=False)


def test_cancelling_and_halving_at_once_do_not_deadlock(ledger: Ledger) -> None:
    """A job can be cancelled at the moment a worker halves one of its batches: each waits for the other, in order."""
    for _ in range(6):
        job = ledger.job()
        ledger.batches(job.id, 200)
        at_once(2, partial(_cancel_or_halve, ledger, job.id, ledger.leased(job.id, 199)))
        ledger.call(control.cancel_batches, job.id)
        assert ledger.call(jobs.finish, job.id) is jobs.Finish.DONE


def _cancel_or_halve(ledger: Ledger, job_id: str, held: Lease, index: int) -> None:
    with begin(ledger.engine) as connection:
        if index == 0:
            control.cancel(connection, job_id)
        elif batches.settle(connection, held, BatchState.HALVED, "why"):
            batches.add(connection, job_id, [NewBatch(b"half", 1, 1)] * 2)
