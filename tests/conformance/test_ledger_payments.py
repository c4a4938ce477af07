"""Payments: what every attempt spent, once, by model and transformation, whatever became of it."""

from dataclasses import replace

import pytest

from orchestrator.contracts.report import BatchState, BillLine
from orchestrator.ledger import batches, control, failures, payments
from orchestrator.ledger.payments import Cost, Payment
from tests.ledgers import STALE_AFTER, Ledger, at_once

_TITLE = Payment("small", "title_extractor", False, prompt=30, completion=4, cached=20)
_GUESSED = Payment("small", "title_extractor", True, completion=3)
_EMBED = Payment("hashed", "embed", True, embedding=7)
_COST = Cost([_TITLE, _GUESSED, _EMBED])


def test_the_bill_says_who_was_paid_for_what(ledger: Ledger) -> None:
    """Tokens are summed by transformation and model over batches and attempts, and what was estimated is said."""
    job, other = ledger.job(), ledger.job()
    for made in (job, other):
        ledger.batches(made.id, 2)
    for number in (0, 1):
        ledger.transformed(job.id, number, cost=_COST)
    ledger.transformed(other.id, 0, cost=Cost([_EMBED]))
    assert ledger.call(payments.bill, job.id) == [
        BillLine(transformation="embed", model="hashed", embedding=14, estimated=14),
        BillLine(transformation="title_extractor", model="small", prompt=60, completion=14, cached=40, estimated=6),
    ]
    assert ledger.call(payments.spent, job.id) == 2 * (30 + 4 + 3 + 7)
    assert ledger.call(payments.spent, other.id) == 7
    assert ledger.call(payments.spent, ledger.job().id) == 0


def test_names_of_any_length_and_content_can_be_paid(ledger: Ledger) -> None:
    """A model's name that is long, or that no database can store, is cut and mended; two of them stay two."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    models = ["漢" * 5000 + "a", "漢" * 5000 + "b", "a\x00b\ud800"]
    ledger.transformed(job.id, 0, cost=Cost([Payment(model, "x" * 5000, False, prompt=1) for model in models]))
    bill = ledger.call(payments.bill, job.id)
    assert [line.prompt for line in bill] == [1, 1, 1]
    assert sum(line.model.startswith("漢" * 200 + "…") for line in bill) == 2


def test_an_attempt_is_paid_once_however_often_it_says_so(ledger: Ledger) -> None:
    """What an attempt says again counts once, and the larger number stands; another attempt's comes on top."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    held = ledger.leased(job.id)
    at_once(4, lambda _: ledger.call(batches.charge, held, Cost([_EMBED])))
    ledger.call(batches.charge, held, Cost([_EMBED, _TITLE]))
    ledger.call(batches.charge, held, Cost([replace(_EMBED, embedding=2)]))
    assert ledger.call(payments.spent, job.id) == 7 + 34
    assert ledger.call(payments.spent, job.id, besides=(0, 1)) == 0
    ledger.call(batches.settle, held, BatchState.RETRYING, "busy", cost=Cost([_EMBED, _TITLE]))
    ledger.transformed(job.id, 0, cost=Cost([_EMBED]))
    assert ledger.call(payments.spent, job.id) == 7 + 34 + 7
    assert ledger.call(payments.spent, job.id, besides=(0, 1)) == 7


@pytest.mark.parametrize("state", [None, BatchState.RETRYING, BatchState.HALVED, BatchState.FAILED])
def test_an_attempt_that_lost_its_lease_has_been_paid_for(ledger: Ledger, state: BatchState | None) -> None:
    """The tokens of a worker that was given up stay on the bill, beside those of the one that took over."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    lost = ledger.leased(job.id, owner="slow")
    ledger.age_batch(job.id, 0, "heartbeat_at", STALE_AFTER + 1)
    taken = ledger.leased(job.id, owner="fast")
    if state is None:
        assert not ledger.call(batches.mark_transformed, lost, _COST).counts
    else:
        assert not ledger.call(batches.settle, lost, state, "reason", cost=_COST)
    assert ledger.call(batches.mark_transformed, taken, Cost([_EMBED])).counts
    assert ledger.call(payments.spent, job.id) == 44 + 7


def test_the_batches_of_a_cancelled_job_have_been_paid_for(ledger: Ledger) -> None:
    """What a batch spent before and after its job was cancelled stays on the bill."""
    job = ledger.job()
    ledger.batches(job.id, 2)
    ledger.transformed(job.id, 0, cost=Cost([_EMBED]))
    held = ledger.leased(job.id, 1)
    ledger.call(control.cancel, job.id)
    assert ledger.states(job.id) == [BatchState.CANCELLED] * 2
    assert not ledger.call(batches.mark_transformed, held, _COST).counts
    assert ledger.call(payments.spent, job.id) == 7 + 44


def test_a_batch_without_tokens_costs_no_statement(ledger: Ledger) -> None:
    """Handing over a result is one statement where nothing was spent, and two whatever was."""
    job = ledger.job()
    ledger.batches(job.id, 2)
    for number, cost, statements in ((0, Cost(), 1), (1, _COST, 2)):
        held = ledger.leased(job.id, number)
        with ledger.statements() as sent:
            ledger.call(batches.mark_transformed, held, cost)
        assert len(sent) == statements


def test_a_job_that_is_stopped_ends_what_is_not_begun(ledger: Ledger) -> None:
    """Of a stopped job, the batch held fails and all that wait; what runs or waits for a commit may be committed."""
    job = ledger.job()
    ledger.batches(job.id, 5)
    ledger.batches(job.id, 1, waiting=False)
    ledger.transformed(job.id, 0)
    held, other = ledger.leased(job.id, 1), ledger.leased(job.id, 2)
    ledger.call(batches.settle, ledger.leased(job.id, 3), BatchState.RETRYING, "busy")
    error = ValueError("spent")
    for _ in range(2):
        ledger.call(control.stop, held, error)
    transformed, failed = BatchState.TRANSFORMED, BatchState.FAILED
    assert ledger.states(job.id) == [transformed, failed, BatchState.RUNNING, failed, failed, failed]
    assert ledger.job_row(job.id)["error"] == "ValueError: spent"
    ledger.call(control.stop, other, error)
    (failure,) = ledger.call(failures.failures_of, job.id)
    assert (failure.document_id, failure.message) == ("*", "spent")
    assert ledger.call(batches.lock_transformed, job.id, [0]) == {0: 1}
