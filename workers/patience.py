"""Patience: a ledger that restarts is asked again, so that its restart costs neither messages nor finished work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

from orchestrator.contracts.errors import ServiceUnreachable
from orchestrator.contracts.logs import get_logger

__all__ = ["LEDGER_AWAY", "patiently"]

# What a ledger raises that is down, restarting, out of space, or cut off: all of it may pass.
LEDGER_AWAY = (ServiceUnreachable, OperationalError, InterfaceError)
_PATIENCE_SECONDS = 10.0  # less than a lease lives without a heartbeat
_PAUSE_SECONDS = 0.5

_log = get_logger(__name__)
_Answer = TypeVar("_Answer")


def patiently(
    transaction: Callable[[], _Answer],
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> _Answer:
    """Run a transaction on the ledger that may run twice; again for about ten seconds while the ledger is away.

    Raises:
        SQLAlchemyError, ServiceUnreachable: it still is.
    """
    deadline = clock() + _PATIENCE_SECONDS
    while True:
        try:
            return transaction()
        except LEDGER_AWAY as error:
            if clock() >= deadline:
                raise
            _log.warning("the ledger is away; asking again", error=error)
        pause(_PAUSE_SECONDS)
