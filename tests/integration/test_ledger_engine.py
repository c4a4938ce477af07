"""How the ledger's connections to Postgres are set up."""

from typing import Any

from sqlalchemy import LargeBinary, literal, select, text

from orchestrator.contracts.report import JobState
from orchestrator.ledger import batches, documents, jobs
from orchestrator.ledger.binary_results import IN_BINARY
from orchestrator.ledger.engine import begin
from orchestrator.ledger.payments import Cost, Payment
from orchestrator.ledger.statements import array_literal
from tests.ledgers import FINGERPRINT, Ledger, row


def test_no_plan_outlives_the_table_it_was_made_for(ledger: Ledger) -> None:
    """However often a statement runs, Postgres keeps no plan of it from when the table was nearly empty."""
    with begin(ledger.engine) as connection:
        for _ in range(20):
            documents.known(connection, "handbook", ["a", "b"])
        assert connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0


def test_looking_up_documents_does_not_read_the_others(ledger: Ledger) -> None:
    """In a table that is being filled, and of which Postgres knows nothing, each id and body is looked up by itself."""
    ids = [f"{number:05}" for number in range(20_000)]
    for start in range(0, len(ids), 1000):
        ledger.write(*map(row, ids[start : start + 1000]))
    asked = {"of_collection": "handbook", "of_fingerprint": FINGERPRINT, "asked": array_literal(ids[:1000])}
    with begin(ledger.engine) as connection:
        for statement, condition in (
            (documents._LOOK_UP, "id = "),
            (documents._LOCK, "id = "),
            (documents._LOOK_UP_BODIES, "(body_hash)::text = "),
        ):
            plan = "\n".join(connection.execute(text(f"EXPLAIN {statement.text}"), asked).scalars())
            assert "Nested Loop" in plan
            assert f"Index Cond: (((collection)::text = 'handbook'::text) AND ({condition}" in plan


def test_who_holds_a_job_keeps_nobody_from_working_on_it(ledger: Ledger) -> None:
    """While a transaction holds the job's row, its batches are handed over and paid for, and it is seen to be open."""
    job = ledger.job(state=JobState.RUNNING)
    ledger.batches(job.id, 2)
    held = ledger.leased(job.id)
    cost = Cost([Payment("small", "embed", False, embedding=7)])
    with begin(ledger.engine) as holding, begin(ledger.engine) as other:
        batches.lock_job(holding, job.id)
        other.execute(text("SET LOCAL lock_timeout = '1s'"))
        assert batches.mark_transformed(other, held, cost).counts
        assert jobs.finish(other, job.id) is jobs.Finish.OPEN


def test_bytes_are_read_in_binary_where_that_is_asked_for(ledger: Ledger) -> None:
    """A query that asks for it gets its bytes as they are, not as twice as many digits; the next is text again."""
    bytes_ = select(literal(bytes(range(256)), LargeBinary).label("bytes"))
    with begin(ledger.engine) as connection:
        for query, form in ((bytes_.execution_options(**IN_BINARY), 1), (bytes_, 0)):
            result = connection.execute(query)
            cursor: Any = result.cursor
            assert cursor.pgresult.fformat(0) == form
            assert result.scalar_one() == bytes(range(256))
