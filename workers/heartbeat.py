"""Heartbeat: says, while a batch runs, that its worker is alive."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.contracts.errors import DocmillError
from orchestrator.ledger import batches
from orchestrator.ledger.engine import begin

__all__ = ["Heartbeat"]

_log = structlog.get_logger(__name__)


class Heartbeat:
    """One thread a process, which beats for all leases of the process while there is one."""

    def __init__(self, engine: Engine, owner: str, *, every: float) -> None:
        self.engine = engine
        self.owner = owner
        self.every = every
        self._leases = 0
        self._lock = threading.Lock()
        self._running = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beat until the block ends. A batch that ends before the first beat costs nothing."""
        with self._lock:
            self._leases += 1
            self._running.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="docmill-heartbeat", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._leases -= 1
                if not self._leases:
                    self._running.clear()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._running.wait()
            pause.wait(self.every)
            if not self._running.is_set():
                continue
            try:
                with begin(self.engine) as connection:
                    batches.heartbeat(connection, self.owner)
            except (SQLAlchemyError, DocmillError) as error:
                # The next beat may get through; if none does, the lease goes to somebody who can be heard.
                _log.warning("heartbeat failed", owner=self.owner, error=str(error))
