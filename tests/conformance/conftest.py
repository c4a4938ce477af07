"""The ledger's two databases, each with the schema of this release."""

from collections.abc import Iterator

import pytest

from orchestrator.ledger.engine import create_ledger_engine
from orchestrator.ledger.migrate import upgrade
from tests.ledgers import Ledger


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.sqlite'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="module")
def migrated_ledger(ledger_url: str) -> Iterator[Ledger]:
    """A ledger that the tests of a module share."""
    engine = create_ledger_engine(ledger_url)
    upgrade(engine)
    yield Ledger(engine)
    engine.dispose()


@pytest.fixture
def ledger(migrated_ledger: Ledger) -> Ledger:
    """A ledger without a row in it."""
    migrated_ledger.empty()
    return migrated_ledger
