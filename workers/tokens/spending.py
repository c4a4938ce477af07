"""Spending: whoever pays for tokens says so here, and whoever keeps the bill hears of it, also of work that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

from workers.tokens.usage import Usage

__all__ = ["Spending", "collecting", "spent"]


class Spending:
    """A sum that grows; tasks and threads may add to it at once."""

    def __init__(self) -> None:
        self._total = Usage()
        self._lock = Lock()

    @property
    def total(self) -> Usage:
        """What has been spent so far."""
        return self._total

    def add(self, usage: Usage) -> None:
        """Count one call."""
        with self._lock:
            self._total += usage


_open: ContextVar[tuple[Spending, ...]] = ContextVar("docmill_spending", default=())


@contextmanager
def collecting() -> Iterator[Spending]:
    """Hear of everything that is spent within the block, by tasks it starts too. Blocks within blocks all hear it."""
    spending = Spending()
    token = _open.set((*_open.get(), spending))
    try:
        yield spending
    finally:
        _open.reset(token)


def spent(usage: Usage) -> None:
    """Say what a call cost: at once when its answer is there, before anything else can go wrong."""
    for spending in _open.get():
        spending.add(usage)
