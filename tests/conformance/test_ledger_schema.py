"""The migrations make the tables that the code speaks of, on both databases."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from alembic import command
from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable
from orchestrator.contracts.report import TokenCounts
from orchestrator.ledger import payments
from orchestrator.ledger.engine import begin, create_ledger_engine
from orchestrator.ledger.migrate import current_revision, require_current, upgrade
from orchestrator.ledger.payments import Cost, Payment
from orchestrator.ledger.tables import REVISION, metadata
from tests.ledgers import Ledger

_ALEMBIC = Path(__file__).parents[2] / "alembic"


def _downgrade(engine: Engine, revision: str = "base") -> None:
    config = Config()
    config.set_main_option("script_location", str(_ALEMBIC))
    with begin(engine) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def test_migrations_make_the_tables_of_the_code(ledger: Ledger) -> None:
    """After all migrations nothing differs between the database and the tables in the code, indexes included."""
    with begin(ledger.engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_upgrading_twice_is_upgrading_once(ledger: Ledger) -> None:
    """A second upgrade changes nothing, and keeps what is in the tables."""
    job = ledger.job()
    upgrade(ledger.engine)
    assert current_revision(ledger.engine) == REVISION
    assert ledger.job_row(job.id)["state"] == "enqueuing"


def test_downgrade_takes_everything_away_and_upgrade_brings_it_back(ledger: Ledger) -> None:
    """The migrations can be undone and done again; meanwhile the release refuses the schema and says what to run."""
    _downgrade(ledger.engine)
    try:
        assert inspect(ledger.engine).get_table_names() == ["alembic_version"]
        with pytest.raises(ConfigurationError, match=r"is at nothing.*`docmill db upgrade`"):
            require_current(ledger.engine)
    finally:
        upgrade(ledger.engine)
    require_current(ledger.engine)
    assert set(metadata.tables) < set(inspect(ledger.engine).get_table_names())


def test_tokens_survive_the_migration_to_payments(ledger: Ledger) -> None:
    """Sums of tokens on batch rows become payments, and payments sums again where the migration is undone."""
    job = ledger.job()
    ledger.batches(job.id, 2)
    for number in (0, 1):
        title = Payment("small", "title_extractor", False, prompt=2**33, completion=4)
        ledger.transformed(job.id, number, cost=Cost([title, Payment("hashed", "embed", True, embedding=7)]))
    before = TokenCounts.of(ledger.call(payments.bill, job.id))
    _downgrade(ledger.engine, "0003")
    try:
        with begin(ledger.engine) as connection:
            sums = connection.execute(
                text("SELECT tokens_embedding, tokens_prompt, tokens_completion FROM batches WHERE job_id = :id"),
                {"id": job.id},
            ).all()
        assert sums == [(7, 2**33, 4)] * 2
    finally:
        upgrade(ledger.engine)
    after = TokenCounts.of(ledger.call(payments.bill, job.id))
    assert after == before.model_copy(update={"estimated": 0})


@pytest.mark.parametrize("url", ["mysql://host/db", "nothing", "oracle+x://host", ""])
def test_address_of_another_database_is_refused(url: str) -> None:
    """An address that is not one of Postgres or SQLite is refused, and the error names the variable."""
    with pytest.raises(ConfigurationError, match="DOCMILL_DATABASE_URL"):
        create_ledger_engine(url)


def test_unreachable_database_is_named_without_its_password() -> None:
    """A database that does not answer is named by its address, and its password stays hidden."""
    engine = create_ledger_engine("postgresql+psycopg://me:secret@127.0.0.1:1/none", connect_timeout=2)
    with pytest.raises(ServiceUnreachable, match=r"127\.0\.0\.1:1") as caught, begin(engine):
        pass
    assert "secret" not in str(caught.value)
