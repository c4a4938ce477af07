"""The failures table takes every failure, whatever its words."""

import pytest

from orchestrator.contracts.errors import DocumentError, TransientError
from orchestrator.contracts.report import BatchState
from orchestrator.ledger import batches
from orchestrator.ledger.failures import Failure, failures_of, record
from tests.ledgers import Ledger


def _error_of(error: Exception) -> Exception:
    """The error as it is when it was raised: with its traceback."""
    try:
        raise error
    except Exception as raised:  # noqa: BLE001 - any error is a case here
        return raised


def test_failures_come_back_in_the_order_they_were_written(ledger: Ledger) -> None:
    """A failure has its document, stage, transformation, error, message, attempts and time; pages follow each other."""
    job, other = ledger.job(), ledger.job()
    found = [Failure(f"d{index}", "parse", "DocumentError", "why", "parse") for index in range(5)]
    ledger.call(record, job.id, found, attempts=3)
    ledger.call(record, other.id, found[:1])
    ledger.call(record, job.id, [])
    rows = ledger.call(failures_of, job.id)
    assert [row.document_id for row in rows] == ["d0", "d1", "d2", "d3", "d4"]
    assert (rows[0].stage, rows[0].transformation, rows[0].error, rows[0].message) == (
        "parse",
        "parse",
        "DocumentError",
        "why",
    )
    assert rows[0].attempts == 3
    assert rows[0].created_at is not None
    assert rows[0].created_at.tzinfo is not None
    assert rows[0].first_at == rows[0].created_at
    assert ledger.call(failures_of, job.id, limit=2, offset=3) == rows[3:]


def test_a_failure_says_when_its_document_was_first_tried(ledger: Ledger) -> None:
    """The first time is that of the batch's first lease, however often and by whomever it was leased again."""
    job = ledger.job()
    ledger.batches(job.id, 1)
    first = ledger.leased(job.id)
    ledger.call(batches.settle, first, BatchState.RETRYING, "a passing trouble")
    second = ledger.leased(job.id, owner="another")
    ledger.call(record, job.id, [Failure("a", "transform", "E", "why")], first_at=second.first_started_at)
    (row,) = ledger.call(failures_of, job.id)
    assert first.first_started_at == second.first_started_at == row.first_at
    assert row.created_at is not None
    assert row.created_at > first.first_started_at
    assert (first.tries, second.tries) == (1, 2)


def test_thousand_failures_are_one_statement(ledger: Ledger) -> None:
    """Failures are written in bulk."""
    job = ledger.job()
    with ledger.statements() as sent:
        ledger.call(record, job.id, [Failure("a", "read", "E", "why")] * 1000)
    assert len(sent) == 1


@pytest.mark.parametrize(
    "text",
    ["a\x00b", "a\ud800b\udfff", "x" * 1_000_000, "\x00" * 100_000, "𝄞" * 100_000, ""],
    ids=["NUL", "surrogates", "a million", "many NULs", "wide", "empty"],
)
def test_every_text_of_a_failure_can_be_written(ledger: Ledger, text: str) -> None:
    """NULs, lone surrogates and any length are made to fit, in every field, and nothing else is lost."""
    job = ledger.job()
    ledger.call(record, job.id, [Failure(text, text, text, text, text, text), Failure("b", "read", "E", "why")])
    first, second = ledger.call(failures_of, job.id)
    assert second.document_id == "b"
    fields = (first.document_id, first.stage, first.error, first.message, first.transformation, first.traceback)
    limits = (200, 32, 200, 2000, 200, 8000)
    for field, limit in zip(fields, limits, strict=True):
        assert field is not None
        assert len(field) == min(len(text), limit)
        assert field[:1] == text[:1].replace("\x00", "\ufffd")
        assert field.endswith("…") is (len(text) > limit)


def test_failure_of_a_document_error_says_its_stage_and_needs_no_traceback() -> None:
    """An error of our own making explains itself, and names the stage that refused the document."""
    failure = Failure.of("a", _error_of(DocumentError("parse", "encrypted")), stage="transform", transformation="parse")
    assert failure == Failure("a", "parse", "DocumentError", "encrypted", "parse", None)


def test_failure_of_another_error_keeps_its_traceback() -> None:
    """An error that nobody foresaw is kept with its class and its traceback, even one without words."""
    failure = Failure.of("a", _error_of(KeyError()), stage="transform")
    assert (failure.stage, failure.error, failure.message) == ("transform", "KeyError", "KeyError()")
    assert failure.traceback is not None
    assert "_error_of" in failure.traceback
    assert Failure.of("a", _error_of(TransientError("busy")), stage="embed").traceback is not None
