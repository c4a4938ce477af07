"""Asks the ledger for the pages, in threads of its own: the page waits, Flower does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from orchestrator.ledger.engine import create_ledger_engine, reading
from orchestrator.settings import Settings

__all__ = ["LedgerReader"]

_Answer = TypeVar("_Answer")
_THREADS = 4  # Flower's own are taken by its looks at workers that do not answer


class LedgerReader:
    """Runs questions in transactions that only read."""

    def __init__(self, settings: Settings) -> None:
        self._engine = create_ledger_engine(settings.ledger_url, connect_timeout=settings.connect_timeout)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="docmill-jobs-page")

    async def ask(self, question: Callable[[Connection], _Answer]) -> _Answer:
        """The answer to a question, which is asked in another thread.

        Raises:
            SQLAlchemyError, ServiceUnreachable: the ledger does not answer.
            DocmillError: as the question does.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, question)

    def _ask(self, question: Callable[[Connection], _Answer]) -> _Answer:
        with reading(self._engine) as connection:
            return question(connection)
