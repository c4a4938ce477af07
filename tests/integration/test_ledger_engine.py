"""How the ledger's connections to Postgres are set up."""

from sqlalchemy import text

from orchestrator.ledger import documents
from orchestrator.ledger.engine import begin
from tests.ledgers import Ledger


def test_no_plan_outlives_the_table_it_was_made_for(ledger: Ledger) -> None:
    """However often a statement runs, Postgres keeps no plan of it from when the table was nearly empty."""
    with begin(ledger.engine) as connection:
        for _ in range(20):
            documents.known(connection, "handbook", ["a", "b"])
        assert connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0
