"""Files of SQLite that several processes make at the same moment: ledger, cache and vectors alike."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.ledger.engine import create_ledger_engine
from orchestrator.ledger.migrate import upgrade
from tests.logs import captured_logs
from workers.caches import SqlCache
from workers.vector_stores.sqlite import SqliteVectorStore


def _make_ledger(file: Path) -> None:
    engine = create_ledger_engine(f"sqlite:///{file}")
    upgrade(engine)
    engine.dispose()


def _put_into_cache(file: Path) -> None:
    cache = SqlCache(f"sqlite:///{file}")
    cache.put_many({"key": b"value"})
    assert cache.get_many(["key"]) == [b"value"]
    cache.close()


def _ask_for_vectors(file: Path) -> None:
    assert SqliteVectorStore(file).describe("handbook") is None


@pytest.mark.parametrize("use", [_make_ledger, _put_into_cache, _ask_for_vectors])
def test_a_new_file_that_another_process_locks_is_waited_for(use: Callable[[Path], None], tmp_path: Path) -> None:
    """Who opens a file that is not in WAL mode yet waits for its turn, and loses nothing that it was to store."""
    file = tmp_path / "new.sqlite"
    with (
        captured_logs() as logs,
        ThreadPoolExecutor() as pool,
        closing(sqlite3.connect(file, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        used = pool.submit(use, file)
        with pytest.raises(TimeoutError):
            used.result(0.3)
        other.execute("COMMIT")
        used.result(30)
    assert logs == []
