"""The ledger in Postgres, with the schema of this release."""

from collections.abc import Iterator

import pytest

from orchestrator.ledger.engine import create_ledger_engine
from orchestrator.ledger.migrate import upgrade
from tests.ledgers import Ledger


@pytest.fixture(scope="module")
def migrated_ledger(postgres_url: str) -> Iterator[Ledger]:
    """A ledger in Postgres that the tests share."""
    engine = create_ledger_engine(postgres_url)
    upgrade(engine)
    yield Ledger(engine)
    engine.dispose()


@pytest.fixture
def ledger(migrated_ledger: Ledger) -> Ledger:
    """A ledger without a row in it."""
    migrated_ledger.empty()
    return migrated_ledger
