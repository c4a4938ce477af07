"""Jobs: counted from their batches, and finished once, whoever calls it and however often."""

from collections import Counter
from functools import partial

import pytest

from orchestrator.contracts.errors import ConfigurationError, JobNotFound
from orchestrator.contracts.report import TERMINAL_JOB_STATES, BatchState, JobState
from orchestrator.contracts.spec import DocstoreStrategy
from orchestrator.ledger import batches, control, documents, failures, jobs, reports
from orchestrator.ledger.batches import BatchOutcome
from orchestrator.ledger.engine import begin
from orchestrator.ledger.failures import Failure, failures_of
from orchestrator.ledger.jobs import Finish
from orchestrator.ledger.payments import Cost, Payment
from tests.ledgers import Ledger, at_once, pipeline_spec, row

_UNKNOWN = "0" * 12
_ENDED_BATCHES = (BatchState.COMMITTED, BatchState.HALVED, BatchState.FAILED, BatchState.CANCELLED)


def _failure(document_id: str = "a") -> Failure:
    return Failure(document_id, "read", "DocumentError", "why")


def test_job_comes_back_as_it_was_created(ledger: Ledger) -> None:
    """A job begins as enqueuing, and keeps its spec."""
    spec = pipeline_spec("manual", DocstoreStrategy.UPSERTS_AND_DELETE)
    made = ledger.job(spec, scope="docs/")
    assert made == ledger.call(jobs.get, made.id)
    assert (made.spec, made.collection, made.state, made.error) == (spec, "manual", JobState.ENQUEUING, None)
    assert (made.created_at.tzinfo is not None, made.finished_at) == (True, None)
    assert ledger.job_row(made.id)["scope"] == "docs/"


def test_jobs_are_numbered_in_the_order_of_enqueuing(ledger: Ledger) -> None:
    """A later job has a higher number, and the newest are listed first."""
    made = [ledger.job() for _ in range(3)]
    assert made[0].number < made[1].number < made[2].number
    assert ledger.call(jobs.recent, 2) == [made[2], made[1]]


@pytest.mark.parametrize("ask", [jobs.get, reports.report, reports.progress, control.cancel, jobs.finish])
def test_unknown_job_is_an_error_that_names_it(ledger: Ledger, ask: object) -> None:
    """Asking for a job that is not in the ledger is an error with its id."""
    assert callable(ask)
    with pytest.raises(JobNotFound, match=_UNKNOWN):
        ledger.call(ask, _UNKNOWN)


def test_older_open_job_of_the_same_collection_is_a_rival(ledger: Ledger) -> None:
    """A job has rivals while an older one of its collection is not ended; later ones and other collections are none."""
    older, job = ledger.job(), ledger.job()
    ledger.job()
    alone = ledger.job(pipeline_spec("other"))
    assert ledger.call(jobs.has_rivals, job)
    assert not ledger.call(jobs.has_rivals, older)
    assert not ledger.call(jobs.has_rivals, alone)
    for state in JobState:
        ledger.change_job(older.id, state=state)
        assert ledger.call(jobs.has_rivals, job) is (state not in TERMINAL_JOB_STATES)


def test_slices_are_added_up_and_say_the_state(ledger: Ledger) -> None:
    """Each slice is counted and is a sign of life, and the client learns that its job was cancelled."""
    job = ledger.job()
    assert ledger.call(jobs.add_seen, job.id, seen=10, unchanged=4, duplicate=1) is JobState.ENQUEUING
    ledger.call(control.cancel, job.id)
    assert ledger.call(jobs.add_seen, job.id, seen=5, unchanged=1, duplicate=2) is JobState.CANCELLING
    report = ledger.call(reports.report, job.id)
    assert (report.documents.seen, report.documents.unchanged, report.documents.duplicate) == (15, 5, 3)


def test_sign_of_life_is_for_a_job_that_is_enqueued(ledger: Ledger) -> None:
    """The client beats while it reads the source, and not after."""
    job = ledger.job()
    before = ledger.job_row(job.id)["heartbeat_at"]
    ledger.call(jobs.beat, job.id)
    beaten = ledger.job_row(job.id)["heartbeat_at"]
    assert beaten >= before
    ledger.call(jobs.close_listing, job.id, may_delete=False)
    ledger.call(jobs.beat, job.id)
    assert ledger.job_row(job.id)["heartbeat_at"] == beaten


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.ENQUEUING])
def test_listing_of_a_job_that_goes_on_without_its_client_stays_open(ledger: Ledger, state: JobState) -> None:
    """A client that comes back after its job was given up, cancelled or aborted does not revive it."""
    job = ledger.job()
    ledger.change_job(job.id, state=state)
    ledger.call(jobs.close_listing, job.id, may_delete=True)
    ledger.call(jobs.fail, job.id, "why")
    found = ledger.job_row(job.id)
    assert (found["state"], found["may_delete"], found["error"], found["listed_at"]) == (state, False, None, None)


def test_job_is_open_while_its_source_is_read(ledger: Ledger) -> None:
    """A job without a batch is not finished before its listing is closed; then it has succeeded."""
    job = ledger.job()
    assert ledger.call(jobs.finish, job.id) is Finish.OPEN
    ledger.call(jobs.close_listing, job.id, may_delete=False)
    assert ledger.call(jobs.finish, job.id) is Finish.DONE
    assert ledger.call(jobs.finish, job.id) is Finish.BEFORE
    found = ledger.call(jobs.get, job.id)
    assert found.state is JobState.SUCCEEDED
    assert found.finished_at is not None
    assert found.finished_at >= found.created_at


@pytest.mark.parametrize("state", list(BatchState))
def test_job_is_open_while_a_batch_is(ledger: Ledger, state: BatchState) -> None:
    """One batch that is not ended keeps the job from being finished, whatever it waits for."""
    job = ledger.job(state=JobState.RUNNING)
    ledger.batches(job.id, 2)
    ledger.change_batch(job.id, 0, state=BatchState.COMMITTED)
    ledger.change_batch(job.id, 1, state=state)
    expected = Finish.DONE if state in _ENDED_BATCHES else Finish.OPEN
    assert ledger.call(jobs.finish, job.id) is expected


def test_job_is_finished_once_by_many(ledger: Ledger) -> None:
    """Of many that finish a job at the same moment, one does."""
    job = ledger.job(state=JobState.RUNNING)
    outcomes = at_once(8, lambda _: ledger.call(jobs.finish, job.id))
    assert Counter(outcomes) == {Finish.DONE: 1, Finish.BEFORE: 7}


def test_whoever_commits_last_finishes_the_job(ledger: Ledger) -> None:
    """Workers that commit the last batches at the same moment and then look: exactly one of them finishes the job."""
    job = ledger.job(state=JobState.RUNNING)
    ledger.batches(job.id, 6)
    ledger.transformed(job.id, *range(6))

    def commit_and_finish(number: int) -> Finish:
        ledger.call(batches.commit, job.id, [BatchOutcome(number, documents_new=2)])
        return ledger.call(jobs.finish, job.id)

    assert Counter(at_once(6, commit_and_finish))[Finish.DONE] == 1
    assert ledger.call(reports.report, job.id).documents.new == 12


@pytest.mark.parametrize("listed", [["a", "b"], ["a"], []])
def test_vanished_documents_are_removed_before_the_job_is_finished(ledger: Ledger, listed: list[str]) -> None:
    """A job that may delete is finished only when nothing of what vanished is left, and its listing goes with it."""
    ledger.write(row("a"), row("b"))
    job = ledger.job()
    ledger.call(jobs.add_listing, job.id, listed)
    ledger.call(jobs.close_listing, job.id, may_delete=True)
    gone = sorted({"a", "b"} - set(listed))
    if gone:
        assert ledger.call(jobs.finish, job.id) is Finish.DELETE
        assert ledger.call(jobs.finish, job.id) is Finish.DELETE
        ledger.call(documents.delete_documents, "handbook", gone)
    assert ledger.call(jobs.finish, job.id) is Finish.DONE
    assert sorted(ledger.documents()) == listed
    # Its listing is gone: all would have vanished now.
    assert ledger.call(documents.vanished_count, job.id) == (len(listed), len(listed))


@pytest.mark.parametrize("how", ["not allowed", "broken", "cancelled"])
def test_nothing_is_deleted_unless_the_whole_source_was_read(ledger: Ledger, how: str) -> None:
    """A job that may not delete, whose source broke off, or that was cancelled removes no document."""
    ledger.write(row("a"))
    job = ledger.job()
    if how == "broken":
        ledger.call(jobs.fail, job.id, "the source broke off")
    ledger.call(jobs.close_listing, job.id, may_delete=how != "not allowed")
    if how == "cancelled":
        ledger.call(control.cancel, job.id)
    assert ledger.call(jobs.finish, job.id) is Finish.DONE


def test_state_says_that_documents_failed(ledger: Ledger) -> None:
    """A job with a failed document, in a batch or before one, has succeeded with failures."""
    in_batch, before, none = (ledger.job(state=JobState.RUNNING) for _ in range(3))
    ledger.batches(in_batch.id, 1)
    ledger.transformed(in_batch.id, 0)
    ledger.call(batches.commit, in_batch.id, [BatchOutcome(0, documents_new=1, documents_failed=1)])
    ledger.call(failures.record, in_batch.id, [_failure()])
    ledger.call(jobs.refuse, before.id, [_failure()])
    ledger.call(jobs.refuse, none.id, [])
    for job in (in_batch, before, none):
        assert ledger.call(jobs.finish, job.id) is Finish.DONE
    states = [ledger.call(jobs.get, job.id).state for job in (in_batch, before, none)]
    assert states == [JobState.SUCCEEDED_WITH_FAILURES, JobState.SUCCEEDED_WITH_FAILURES, JobState.SUCCEEDED]


def test_job_whose_source_broke_off_fails_after_its_batches(ledger: Ledger) -> None:
    """What was read before the source broke is still done; then the job has failed, with the reason."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    ledger.call(jobs.fail, job.id, "the source broke off")
    assert ledger.call(jobs.finish, job.id) is Finish.OPEN
    ledger.transformed(job.id, 0)
    ledger.call(batches.commit, job.id, [BatchOutcome(0, documents_new=2)])
    assert ledger.call(jobs.finish, job.id) is Finish.DONE
    report = ledger.call(reports.report, job.id)
    assert (report.state, report.error, report.documents.new) == (JobState.FAILED, "the source broke off", 2)


@pytest.mark.parametrize("error", ["a\x00b", "a\ud800b", "x" * 1_000_000], ids=["NUL", "surrogate", "a million"])
def test_any_error_of_a_source_can_be_written(ledger: Ledger, error: str) -> None:
    """An error with characters that no database takes, or a very long one, does not keep the job from failing."""
    broken, aborted = ledger.job(), ledger.job()
    ledger.batches(aborted.id, 1)
    ledger.call(jobs.fail, broken.id, error)
    ledger.call(control.abort, aborted.id, ConfigurationError(error))
    for job in (broken, aborted):
        assert ledger.call(jobs.finish, job.id) is Finish.DONE
        found = ledger.call(reports.report, job.id).error
        assert found is not None
        assert len(found) <= 2000


def test_cancelling_ends_what_is_open_and_twice_is_once(ledger: Ledger) -> None:
    """Cancelling ends every open batch and keeps every ended one; asking again changes nothing."""
    job = ledger.job(state=JobState.RUNNING)
    ledger.batches(job.id, len(BatchState))
    for number, state in enumerate(BatchState):
        ledger.change_batch(job.id, number, state=state)
    assert ledger.call(control.cancel, job.id) is JobState.CANCELLING
    before = ledger.rows_of_batches(job.id)
    for state, batch in zip(BatchState, before, strict=True):
        ended = state in _ENDED_BATCHES
        assert batch["state"] == (state if ended else BatchState.CANCELLED)
        assert batch["payload"] == (b"payload" if ended else None)
    assert ledger.call(control.cancel, job.id) is JobState.CANCELLING
    assert ledger.call(jobs.finish, job.id) is Finish.DONE
    assert ledger.call(control.cancel, job.id) is JobState.CANCELLED
    assert ledger.rows_of_batches(job.id) == before


@pytest.mark.parametrize("state", sorted(TERMINAL_JOB_STATES))
def test_ended_job_can_neither_be_cancelled_nor_aborted(ledger: Ledger, state: JobState) -> None:
    """A job that has ended stays as it ended."""
    job = ledger.job(state=state)
    assert ledger.call(control.cancel, job.id) is state
    ledger.call(control.abort, job.id, ConfigurationError("why"))
    found = ledger.call(jobs.get, job.id)
    assert (found.state, found.error) == (state, None)


def test_batches_of_a_job_at_work_are_not_cancelled(ledger: Ledger) -> None:
    """Only the batches of a job that is being cancelled end so."""
    job = ledger.job(state=JobState.RUNNING)
    ledger.batches(job.id, 1)
    ledger.call(control.cancel_batches, job.id)
    assert ledger.states(job.id) == [BatchState.WAITING]


def test_result_that_comes_after_cancelling_does_not_count(ledger: Ledger) -> None:
    """A worker that ran a batch while its job was cancelled cannot hand its result over."""
    job = ledger.job(state=JobState.RUNNING)
    ledger.batches(job.id, 1)
    held = ledger.leased(job.id)
    ledger.call(control.cancel, job.id)
    assert not ledger.call(batches.mark_transformed, held, Cost()).counts
    assert ledger.call(jobs.finish, job.id) is Finish.DONE


def test_aborting_fails_all_open_batches_with_one_reason(ledger: Ledger) -> None:
    """A job that nobody can do fails at once: open batches count their documents as failed, one row says why."""
    job = ledger.job()
    ledger.batches(job.id, 3, documents=4)
    ledger.transformed(job.id, 0)
    ledger.call(batches.commit, job.id, [BatchOutcome(0, documents_new=4)])
    for _ in range(2):
        ledger.call(control.abort, job.id, ConfigurationError("no such embedder"))
    assert ledger.states(job.id) == [BatchState.COMMITTED, BatchState.FAILED, BatchState.FAILED]
    assert ledger.call(jobs.finish, job.id) is Finish.DONE
    report = ledger.call(reports.report, job.id)
    assert (report.state, report.error) == (JobState.FAILED, "ConfigurationError: no such embedder")
    assert (report.documents.new, report.documents.failed) == (4, 8)
    (failure,) = ledger.call(failures_of, job.id)
    assert (failure.document_id, failure.error) == ("*", "ConfigurationError")


def test_report_is_the_job_and_the_sum_of_its_batches(ledger: Ledger) -> None:
    """Counts of the client, of all batches and of all attempts add up, and another job's stay out."""
    job, other = ledger.job(), ledger.job()
    for made in (job, other):
        ledger.batches(made.id, 3)
    ledger.call(jobs.add_seen, job.id, seen=20, unchanged=5, duplicate=1)
    ledger.call(jobs.refuse, job.id, [_failure("a"), _failure("b")])
    ledger.call(jobs.add_deleted, job.id, documents=2, nodes=9)
    ledger.call(jobs.add_deleted, job.id, documents=1, nodes=1)
    payment = Payment("small", "title_extractor", True, embedding=2**33, prompt=20, completion=30, cached=10)
    cost = Cost([payment], cache_hits=4, cache_misses=6)
    ledger.call(batches.settle, ledger.leased(job.id, 0), BatchState.RETRYING, "why", cost=cost)
    ledger.transformed(job.id, 0, 1, cost=cost)
    ledger.call(batches.settle, ledger.leased(job.id, 2), BatchState.FAILED, "why", cost=cost)
    ledger.call(batches.commit, job.id, [BatchOutcome(0, 1, 2, 0, 3, 40, 5), BatchOutcome(1, 2, 0, 1, 0, 10, 1)])
    report = ledger.call(reports.report, job.id)
    assert report.documents.model_dump() == {
        "seen": 20,
        "new": 3,
        "changed": 2,
        "unchanged": 5,
        "duplicate": 4,
        "deleted": 3,
        "failed": 5,
    }
    assert report.nodes.model_dump() == {"upserted": 50, "removed": 16, "produced": 0}
    tokens = {"embedding": 4 * 2**33, "prompt": 80, "completion": 120, "cached": 40, "estimated": 4 * 2**33 + 200}
    assert report.tokens.model_dump() == tokens
    assert [line.model_dump() for line in report.bill] == [
        {**tokens, "transformation": "title_extractor", "model": "small"}
    ]
    assert report.cache.model_dump() == {"hits": 16, "misses": 24}
    assert report.batches.model_dump() == {"total": 3, "retried": 1}


def test_report_of_a_new_job_is_empty_and_its_time_runs(ledger: Ledger) -> None:
    """A job without a batch reports zeros; its seconds grow until it ends, and then stand."""
    job = ledger.job(state=JobState.RUNNING)
    first = ledger.call(reports.report, job.id)
    assert (first.documents.seen, first.batches.total, first.error) == (0, 0, None)
    assert 0 <= first.seconds < 60
    assert ledger.call(reports.report, job.id).seconds >= first.seconds
    ledger.call(jobs.finish, job.id)
    assert ledger.call(reports.report, job.id) == ledger.call(reports.report, job.id)


def test_progress_counts_batches_by_state_and_settled_documents(ledger: Ledger) -> None:
    """Settled is what needs no work and what has ended; the documents of a halved batch are counted by its halves."""
    job = ledger.job()
    ledger.batches(job.id, 7, documents=3)
    ledger.call(jobs.add_seen, job.id, seen=30, unchanged=2, duplicate=1)
    ledger.call(jobs.refuse, job.id, [_failure()])
    ledger.transformed(job.id, 0, cost=Cost([Payment("hashed", "embed", True, embedding=11)]))
    ledger.call(batches.commit, job.id, [BatchOutcome(0, 2, documents_failed=1, nodes_upserted=8)])
    ledger.call(batches.settle, ledger.leased(job.id, 1), BatchState.FAILED, "poison")
    ledger.call(batches.settle, ledger.leased(job.id, 2), BatchState.HALVED, "poison")
    for number in (3, 4):
        ledger.call(batches.settle, ledger.leased(job.id, number), BatchState.RETRYING, "no answer")
    ledger.change_batch(job.id, 5, reason="no answer")
    with ledger.statements() as sent:
        progress = ledger.call(reports.progress, job.id)
    assert len(sent) == 4
    assert (progress.seen, progress.settled, progress.nodes, progress.tokens, progress.failed) == (30, 10, 8, 11, 5)
    assert progress.batches == {
        BatchState.COMMITTED: 1,
        BatchState.FAILED: 1,
        BatchState.HALVED: 1,
        BatchState.RETRYING: 2,
        BatchState.WAITING: 2,
    }
    assert progress.reasons == ["no answer"]


def test_refused_documents_are_counted_and_recorded(ledger: Ledger) -> None:
    """Every refused document is a row of failures and a failed document of the job."""
    job = ledger.job()
    ledger.call(jobs.refuse, job.id, [_failure("a"), _failure("b")])
    assert ledger.job_row(job.id)["failed"] == 2
    assert [failure.document_id for failure in ledger.call(failures_of, job.id)] == ["a", "b"]


def test_cancelling_and_committing_at_once_do_not_deadlock(ledger: Ledger) -> None:
    """A job can be cancelled at the moment its batches are committed: one waits for the other, and all is ended."""
    for _ in range(3):
        job = ledger.job(state=JobState.RUNNING)
        ledger.batches(job.id, 300)
        for number in range(299, 0, -30):  # rows that were written again lie in another order
            ledger.change_batch(job.id, number, reason="changed")
        ledger.change_batches(job.id, state=BatchState.TRANSFORMED)
        at_once(2, partial(_cancel_or_commit, ledger, job.id))
        assert set(ledger.states(job.id)) < {BatchState.CANCELLED, BatchState.COMMITTED}
        assert ledger.call(jobs.finish, job.id) is Finish.DONE


def _cancel_or_commit(ledger: Ledger, job_id: str, index: int) -> None:
    with begin(ledger.engine) as connection:
        if index == 0:
            control.cancel(connection, job_id)
        else:
            waiting = batches.lock_transformed(connection, job_id, range(300))
            batches.commit(connection, job_id, [BatchOutcome(number) for number in waiting])
