"""Heartbeat: says, while a batch runs, that its worker is alive, and what it has paid so far."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.contracts.errors import DocmillError
from orchestrator.contracts.logs import get_logger
from orchestrator.ledger import batches
from orchestrator.ledger.engine import begin

__all__ = ["Beat", "Heartbeat"]

Beat: TypeAlias = Callable[[Connection], None]

_log = get_logger(__name__)


class Heartbeat:
    """One thread a process, which beats for all leases of the process while there is one."""

    def __init__(self, engine: Engine, owner: str, *, every: float) -> None:
        self.engine = engine
        self.owner = owner
        self.every = every
        self._running_batches: list[Beat] = []
        self._lock = threading.Lock()
        self._running = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def beating(self, beat: Beat) -> Iterator[None]:
        """Beat until the block ends. A batch that ends before the first beat costs nothing.

        Args:
            beat: called in the transaction of each beat; possibly once more when the block has just ended.
        """
        with self._lock:
            self._running_batches.append(beat)
            self._running.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="docmill-heartbeat", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._running_batches.remove(beat)
                if not self._running_batches:
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
                    for beat in list(self._running_batches):
                        beat(connection)
            except (SQLAlchemyError, DocmillError) as error:
                # The next beat may get through; if none does, the lease goes to somebody who can be heard.
                _log.warning("heartbeat failed", owner=self.owner, error=error)
