"""Jobs and batches as lists show them: filtered, sorted and paged in SQL, in a fixed number of queries."""

import pytest

from orchestrator.contracts.errors import JobNotFound
from orchestrator.contracts.report import BatchState, JobState
from orchestrator.ledger import control, jobs, reports
from orchestrator.ledger.engine import begin, reading
from orchestrator.ledger.listing import SORTS, JobsPage, batches_page, job_line, jobs_page
from orchestrator.ledger.payments import Cost, Payment
from tests.ledgers import Ledger, pipeline_spec

_COST = Cost([Payment("small", "title_extractor", False, prompt=30, completion=4)], cache_hits=3, cache_misses=1)


def _page(ledger: Ledger, **asked: object) -> JobsPage:
    return ledger.call(jobs_page, **asked)


def _ids(ledger: Ledger, **asked: object) -> list[str]:
    return [line.id for line in _page(ledger, **asked).lines]


def _worked(ledger: Ledger, *, batches: int = 3, committed: int = 2) -> str:
    """A running job with some of its batches committed, each of two documents."""
    job = ledger.job(state=JobState.RUNNING)
    ledger.batches(job.id, batches)
    ledger.transformed(job.id, *range(committed), cost=_COST)
    for number in range(committed):
        ledger.change_batch(job.id, number, state=BatchState.COMMITTED, documents_new=2, nodes_upserted=5)
        ledger.age_batch(job.id, number, "finished_at", 1)
    return job.id


def test_an_empty_ledger_has_an_empty_page(ledger: Ledger) -> None:
    """Without a job there is no line, and none is counted."""
    assert _page(ledger) == JobsPage([], 0, {})


def test_a_line_says_what_the_report_says(ledger: Ledger) -> None:
    """Documents, nodes, tokens and look-ups of a line are those of the job's report, and its batches are counted."""
    id = _worked(ledger)
    ledger.change_job(id, seen=9, unchanged=3, duplicate=1, failed=1, deleted=2)
    ledger.change_batch(id, 2, state=BatchState.FAILED, documents_failed=2)
    (line,) = _page(ledger).lines
    report = ledger.call(reports.report, id)
    assert (line.documents, line.cache, line.nodes) == (report.documents, report.cache, report.nodes.upserted)
    assert (line.tokens, line.bill) == (68, list(report.bill))
    assert (line.batches_done, line.batches_total) == (3, 3)
    assert line.batches == {BatchState.COMMITTED: 2, BatchState.FAILED: 1}


def test_speed_and_time_left(ledger: Ledger) -> None:
    """A running job goes at the speed of the last minute; its time left is unknown while read, paused or stuck."""
    id = _worked(ledger)
    running = ledger.call(job_line, id)
    assert running.documents_per_second == pytest.approx(4.0)  # of the second that it has run at least
    assert running.seconds_left == pytest.approx(0.5)
    for values in ({"state": JobState.ENQUEUING}, {"paused": True}):
        ledger.change_job(id, **values)
        assert ledger.call(job_line, id).seconds_left is None
        ledger.change_job(id, state=JobState.RUNNING, paused=False)
    for number in range(2):
        ledger.age_batch(id, number, "finished_at", 100)
    stuck = ledger.call(job_line, id)
    assert (stuck.documents_per_second, stuck.seconds_left) == (None, None)


def test_an_ended_job_has_the_speed_of_its_whole_time(ledger: Ledger) -> None:
    """Once ended, a job's speed is over all its seconds; one that had nothing to do has none."""
    id, idle = _worked(ledger), ledger.job(state=JobState.SUCCEEDED).id
    row = ledger.job_row(id)
    ledger.change_job(
        id, state=JobState.SUCCEEDED, finished_at=row["created_at"].replace(year=row["created_at"].year + 1)
    )
    line = ledger.call(job_line, id)
    assert line.seconds > 300 * 24 * 3600
    assert line.documents_per_second == pytest.approx(4 / line.seconds)
    assert ledger.call(job_line, idle).documents_per_second is None


def test_pages_follow_one_another(ledger: Ledger) -> None:
    """Pages have no job twice and leave none out, newest first; the total is that of all pages."""
    made = [ledger.job().id for _ in range(7)]
    pages = [_page(ledger, limit=3, offset=offset) for offset in (0, 3, 6, 9)]
    assert [line.id for page in pages for line in page.lines] == made[::-1]
    assert [len(page.lines) for page in pages] == [3, 3, 1, 0]
    assert {page.total for page in pages} == {7}


def test_states_are_filtered_and_counted(ledger: Ledger) -> None:
    """Only jobs in the states asked for are listed; how many there are in each state is told of all."""
    for state in (JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.FAILED, JobState.RUNNING):
        ledger.job(state=state)
    found = _page(ledger, states=[JobState.FAILED, JobState.RUNNING], limit=1)
    assert (len(found.lines), found.total) == (1, 2)
    assert found.states == {JobState.SUCCEEDED: 2, JobState.FAILED: 1, JobState.RUNNING: 1}


def test_text_is_looked_for_as_it_is(ledger: Ledger) -> None:
    """Part of an id, a collection or a starter finds a job, in either case; wildcards and quotes are characters."""
    one = ledger.job(pipeline_spec("hand_book")).id
    other = ledger.call(jobs.create, "0123456789ab", pipeline_spec("handxbook"), started_by="Ann 100%@host").id
    assert _ids(ledger, text="hand_") == [one]
    assert _ids(ledger, text=one[2:9]) == [one]
    assert _ids(ledger, text="ann") == _ids(ledger, text="100%@") == _ids(ledger, text="456789") == [other]
    assert _page(ledger, text="ann").states == {JobState.ENQUEUING: 1}
    for nothing in ("100%host", "'; DROP TABLE jobs; --", "\\", "%_"):
        assert _ids(ledger, text=nothing) == []


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_goes_both_ways(ledger: Ledger, sort: str) -> None:
    """By each column the job with more of it comes first or last; jobs that are equal come newest first."""
    low = ledger.job(pipeline_spec("a"), state=JobState.FAILED).id
    high = ledger.job(pipeline_spec("b"), state=JobState.RUNNING).id
    ledger.change_job(high, unchanged=1, deleted=1, started_by="z")
    ledger.batches(high, 1)
    ledger.transformed(high, 0, cost=_COST)
    ledger.change_batch(high, documents_new=1, documents_changed=1, documents_failed=1, nodes_upserted=1)
    assert _ids(ledger, sort=sort) == [high, low]
    assert _ids(ledger, sort=sort, descending=False) == [low, high]
    equal = [ledger.job(pipeline_spec("c"), state=JobState.SUCCEEDED).id for _ in range(2)]
    if sort != "created":
        found = _ids(ledger, sort=sort)
        assert found.index(equal[1]) == found.index(equal[0]) - 1


def test_a_page_is_four_queries(ledger: Ledger) -> None:
    """However many jobs and batches there are, and whatever they are sorted by."""
    for _ in range(5):
        _worked(ledger)
    for sort in ("created", "nodes", "tokens"):
        with ledger.statements() as sent:
            _page(ledger, sort=sort, text="handbook")
        assert len(sent) == 4


def test_a_reader_waits_for_no_writer(ledger: Ledger) -> None:
    """While a transaction writes, another reads what was there before, and neither keeps the other waiting."""
    job = ledger.job().id
    with begin(ledger.engine) as writer:
        control.cancel(writer, job)
        with reading(ledger.engine) as reader:
            assert job_line(reader, job).state is JobState.ENQUEUING
    with reading(ledger.engine) as reader:
        assert job_line(reader, job).state is JobState.CANCELLING
        ledger.change_job(job, state=JobState.CANCELLED)


def test_an_unknown_job_is_no_line(ledger: Ledger) -> None:
    """Asking for a job that is not there says so."""
    with pytest.raises(JobNotFound):
        ledger.call(job_line, "0123456789ab")


def test_batches_are_listed_with_their_times(ledger: Ledger) -> None:
    """Batches come by number and page, with the time of each stage that is over; those of one state alone if asked."""
    id = _worked(ledger, batches=4)
    ledger.age_batch(id, 0, "published_at", 10)
    ledger.age_batch(id, 0, "started_at", 8)
    ledger.age_batch(id, 0, "transformed_at", 5)
    ledger.leased(id, 2, owner="worker@host")
    done, _, running, waiting = ledger.call(batches_page, id)
    assert [done.waited, done.transformed, done.committed] == pytest.approx([2, 3, 4], abs=0.5)
    assert (done.documents, done.nodes, done.attempt) == (2, 5, 1)
    assert (running.owner, running.attempt, running.transformed) == ("worker@host", 1, None)
    assert (waiting.state, waiting.waited) == (BatchState.WAITING, None)
    assert [line.number for line in ledger.call(batches_page, id, limit=2, offset=1)] == [1, 2]
    assert [line.number for line in ledger.call(batches_page, id, states=[BatchState.RUNNING])] == [2]


def test_a_job_says_who_started_it(ledger: Ledger) -> None:
    """The starter is kept as far as there is room, and a job from before says none."""
    ledger.call(jobs.create, "0123456789ab", pipeline_spec(), started_by="ann@\x00" + "h" * 500)
    assert str(ledger.call(job_line, "0123456789ab").started_by).startswith("ann@\ufffdhhh")
    assert ledger.call(job_line, ledger.job().id).started_by is None
