"""Spending: whoever pays for tokens says so here, and whoever keeps the bill hears of it, also of work that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import NamedTuple

from orchestrator.contracts.errors import TokenBudgetExceeded
from workers.tokens.callbacks import notify
from workers.tokens.usage import TOKEN_PARTS, TokenEvent, TokenUsage

__all__ = ["Source", "Spending", "about_to_spend", "collecting", "spending_for", "spent"]


class Source(NamedTuple):
    """Who was paid, for what, and who says so.

    Attributes:
        model: the embedder's or the language model's registered name.
        transformation: the registered name of the step that asked; "" outside of a chain.
        estimated: the tokens were counted here, because the provider did not report them.
    """

    model: str
    transformation: str
    estimated: bool


class Spending:
    """Sums that grow; tasks and threads may add to them at once.

    Attributes:
        budget: tokens that may be spent, by this and by others; None: no limit.
        before: how many of them others have spent.
    """

    def __init__(self, budget: int | None = None, before: int = 0) -> None:
        self.budget = budget
        self.before = before
        self._by_source: dict[Source, TokenUsage] = {}
        self._lock = Lock()

    @property
    def total(self) -> TokenUsage:
        """What has been spent so far."""
        return sum(self.by_source.values(), TokenUsage())

    @property
    def by_source(self) -> dict[Source, TokenUsage]:
        """What has been spent so far, by who was paid for what."""
        with self._lock:
            return dict(self._by_source)

    def add(self, source: Source, usage: TokenUsage) -> None:
        """Count one call."""
        with self._lock:
            self._by_source[source] = self._by_source.get(source, TokenUsage()) + usage

    def check(self, planned: Callable[[], int]) -> None:
        """Ask before a call that will cost about so many tokens; they are counted only where there is a budget.

        Raises:
            TokenBudgetExceeded: the budget has fewer left.
        """
        if self.budget is None:
            return
        spent, count = self.before + self.total.total, planned()
        if spent + count > self.budget:
            raise TokenBudgetExceeded(self.budget, spent, count)


_open: ContextVar[tuple[Spending, ...]] = ContextVar("docmill_spending", default=())
_transformation: ContextVar[str] = ContextVar("docmill_spending_for", default="")


@contextmanager
def collecting(spending: Spending | None = None) -> Iterator[Spending]:
    """Hear of everything that is spent within the block, by tasks it starts too. Blocks within blocks all hear it."""
    spending = spending or Spending()
    token = _open.set((*_open.get(), spending))
    try:
        yield spending
    finally:
        _open.reset(token)


class spending_for:  # noqa: N801 - used as `with spending_for(…)`; a generator would cost a document as much as parsing
    """What is spent within the block is spent for this transformation."""

    def __init__(self, transformation: str) -> None:
        self._name = transformation

    def __enter__(self) -> None:
        self._token = _transformation.set(self._name)

    def __exit__(self, *raised: object) -> None:
        _transformation.reset(self._token)


def spent(model: str, usage: TokenUsage) -> None:
    """Say what a call cost: at once when its answer is there, before anything else can go wrong."""
    if not usage.total:
        return
    source = Source(model, _transformation.get(), usage.estimated)
    for spending in _open.get():
        spending.add(source, usage)
    notify(_event(source, usage))


def _event(source: Source, usage: TokenUsage) -> TokenEvent:
    estimated = frozenset(part for part in TOKEN_PARTS if usage.estimated and getattr(usage, part))
    return TokenEvent("embedding" if usage.embedding else "llm", usage, estimated, source.model, source.transformation)


def about_to_spend(planned: Callable[[], int]) -> None:
    """Ask before each call, for leave to spend about so many tokens.

    Raises:
        TokenBudgetExceeded: the budget has fewer left; nothing is to be spent.
    """
    for spending in _open.get():
        spending.check(planned)
