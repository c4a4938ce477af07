"""Stages and throughput: the time of a job is told apart, and adds up."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.contracts.report import BatchState
from orchestrator.ledger.stages import Stage, Stages, stages, throughput
from tests.ledgers import Ledger

_BEGIN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _at(second: float | None) -> datetime | None:
    return None if second is None else _BEGIN + timedelta(seconds=second)


def _job(ledger: Ledger, *times: tuple[BatchState, float | None, float | None, float | None, float | None]) -> str:
    """A job whose batches were published, started, transformed and finished at these seconds."""
    job = ledger.job()
    ledger.batches(job.id, len(times))
    for number, (state, published, started, transformed, finished) in enumerate(times):
        ledger.change_batch(
            job.id,
            number,
            state=state,
            published_at=_at(published),
            started_at=_at(started),
            transformed_at=_at(transformed),
            finished_at=_at(finished),
        )
    return job.id


def _stages(ledger: Ledger, id: str, seconds: float) -> Stages:
    return ledger.call(stages, id, _BEGIN, _BEGIN + timedelta(seconds=seconds))


def _walls(found: Stages) -> dict[str, float]:
    return {time.stage: round(time.seconds, 3) for time in found.stages} | {"rest": round(found.rest, 3)}


def test_a_job_without_batches_is_all_rest(ledger: Ledger) -> None:
    """Nothing was waited for, transformed or committed."""
    assert _walls(_stages(ledger, _job(ledger), 7)) == {"transforming": 0, "committing": 0, "waiting": 0, "rest": 7}


def test_one_batch_after_the_other(ledger: Ledger) -> None:
    """The stages of one batch are its own times, and what is before, between and after is the rest."""
    id = _job(ledger, (BatchState.COMMITTED, 1, 3, 6, 10), (BatchState.COMMITTED, 12, 12.5, 13, 13.25))
    found = _stages(ledger, id, 20)
    assert _walls(found) == {"transforming": 3.5, "committing": 4.25, "waiting": 2.5, "rest": 9.75}
    assert [(time.batch_seconds, time.batches) for time in found.stages] == [(3.5, 2), (4.25, 2), (2.5, 2)]


def test_batches_at_once_are_counted_once(ledger: Ledger) -> None:
    """A moment belongs to the first stage that any batch is in, so the stages and the rest come to the job's time."""
    id = _job(
        ledger,
        (BatchState.COMMITTED, 0, 0, 4, 10),
        (BatchState.COMMITTED, 0, 2, 6, 10),  # waits while the first is transformed
        (BatchState.COMMITTED, 0, 2, 3, 4),  # within the others
        (BatchState.COMMITTED, 0, 11, 12, 13),  # waits after the others are done
    )
    found = _stages(ledger, id, 15)
    assert _walls(found) == {"transforming": 7, "committing": 5, "waiting": 1, "rest": 2}
    assert sum(time.seconds for time in found.stages) + found.rest == pytest.approx(found.seconds) == 15
    waiting = found.stages[-1]
    assert (waiting.stage, waiting.batch_seconds, waiting.batches) == (Stage.WAITING, 2 + 2 + 11, 3)


def test_what_goes_on_is_counted_until_now(ledger: Ledger) -> None:
    """Batches that wait, run, or wait for their commit are in their stage until the end that is asked for."""
    for state, times, stage in (
        (BatchState.WAITING, (2, None, None, None), "waiting"),
        (BatchState.RUNNING, (2, 2, None, None), "transforming"),
        (BatchState.TRANSFORMED, (2, 2, 2, None), "committing"),
    ):
        assert _walls(_stages(ledger, _job(ledger, (state, *times)), 5))[stage] == 3


def test_an_attempt_whose_end_is_unknown_is_rest(ledger: Ledger) -> None:
    """A batch that waits for its retry, and the old times of one that runs again, are not made up."""
    id = _job(ledger, (BatchState.RETRYING, 1, 2, None, None))
    assert _walls(_stages(ledger, id, 10)) == {"transforming": 0, "committing": 0, "waiting": 1, "rest": 9}
    again = _job(ledger, (BatchState.RUNNING, 7, 8, 3, None))
    assert _walls(_stages(ledger, again, 10)) == {"transforming": 2, "committing": 0, "waiting": 1, "rest": 7}


def test_halved_and_failed_batches_were_transformed(ledger: Ledger) -> None:
    """Their attempts took the worker's time until they ended."""
    id = _job(ledger, (BatchState.HALVED, 0, 1, None, 3), (BatchState.FAILED, 3, 3, None, 4))
    assert _walls(_stages(ledger, id, 4)) == {"transforming": 3, "committing": 0, "waiting": 1, "rest": 0}


def test_throughput_counts_documents_by_the_time_their_batch_ended(ledger: Ledger) -> None:
    """Steps are as wide as a minute's worth of them needs; batches that were halved or cancelled add nothing."""
    id = _job(
        ledger,
        (BatchState.COMMITTED, 0, 0, 0, 0.5),
        (BatchState.COMMITTED, 0, 0, 0, 2),
        (BatchState.FAILED, 0, 0, 0, 2.999),
        (BatchState.HALVED, 0, 0, 0, 2),
        (BatchState.CANCELLED, 0, 0, 0, 2),
        (BatchState.COMMITTED, 0, 0, 0, 4),  # at the very end
    )
    found = ledger.call(throughput, id, _BEGIN, _BEGIN + timedelta(seconds=4))
    assert (found.width, list(found.documents)) == (1, [2, 0, 4, 2])
    longer = ledger.call(throughput, id, _BEGIN, _BEGIN + timedelta(seconds=61))
    assert (longer.width, len(longer.documents), sum(longer.documents)) == (2, 31, 8)
    assert list(ledger.call(throughput, _job(ledger), _BEGIN, _BEGIN).documents) == [0]
