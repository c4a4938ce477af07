"""TokenCountingHandler: the running bill of calls to language models and embedders."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from logging import Logger
from threading import Lock
from typing import TypeAlias

from orchestrator.contracts.budget import check_token_budget
from orchestrator.contracts.errors import TokenBudgetExceeded
from workers.tokens.counter import TokenCounter, TokenizerLike
from workers.tokens.usage import ReportedUsage, TokenEvent, TokenPart, TokenUsage

__all__ = ["Prompt", "TokenCountingHandler"]

Prompt: TypeAlias = str | Sequence[object] | None  # a text, or chat messages


class TokenCountingHandler:
    """Sums up what calls cost: what the provider reported, and an estimate for what it did not.

    Sums are kept per model and transformation, and no texts, so memory does not grow with the number of calls. All
    methods may be called by many threads at once.
    """

    def __init__(
        self,
        tokenizer: TokenizerLike = None,
        token_budget: int | None = None,
        logger: Logger | None = None,
        verbose: bool = False,
        *,
        keep_events: bool = False,
    ) -> None:
        """Nothing is loaded before something has to be estimated.

        Args:
            tokenizer: for estimates; as of a TokenCounter.
            token_budget: tokens that may be spent on prompts, completions and embeddings together.
            logger: gets a line a call, at level DEBUG, or INFO if `verbose`.
            verbose: without a logger, write that line to standard error.
            keep_events: keep all events with their texts in `events`. Memory then grows with every call.

        Raises:
            UnknownName, ConfigurationError: the tokenizer is none, or the budget is not a whole number from 1 on.
        """
        check_token_budget(token_budget)
        self.counter = TokenCounter(tokenizer)
        self.token_budget = token_budget
        self._logger = logger
        self._verbose = verbose
        self._keep_events = keep_events
        self._lock = Lock()
        self._usage = TokenUsage()
        self._by_source: dict[tuple[str, str], TokenUsage] = {}
        self._events: list[TokenEvent] = []

    def on_llm(
        self,
        usage: object = None,
        *,
        prompt: Prompt = None,
        completion: object = None,
        tools: Sequence[object] | None = None,
        model: str = "",
        transformation: str = "",
    ) -> TokenEvent:
        """Count a call of a language model.

        Args:
            usage: what the provider reported: the `usage` of its response, mapping or object; None if there is none.
                A TokenUsage is taken as it is: it does not say any more what was missing.
            prompt: a text or chat messages: estimated, with `tools`, where `usage` has no tokens for them.
            completion: a text or one message: estimated where `usage` does not say. None counts 0.
            model, transformation: whose call it was.

        Raises:
            TokenBudgetExceeded: with this call, which is counted, more is spent than the budget allows.
        """
        texts = _texts(prompt, completion) if self._keep_events else ()
        if isinstance(usage, TokenUsage):
            return self.on_event(TokenEvent("llm", usage, frozenset(), model, transformation, texts))
        reported = ReportedUsage.read(usage)
        estimated: set[TokenPart] = set()
        prompt_tokens, completion_tokens = reported.prompt or 0, reported.completion or 0
        if not prompt_tokens and (prompt or tools):  # servers that do not count report 0
            prompt_tokens = self._estimate(prompt) + self.counter.estimate_tokens_in_tools(tools)
            estimated.add("prompt")
        if reported.completion is None and completion is not None:
            completion_tokens = self._estimate(completion if isinstance(completion, str) else [completion])
            estimated.add("completion")
        total = TokenUsage(prompt_tokens, completion_tokens, cached=reported.cached, estimated=bool(estimated))
        return self.on_event(TokenEvent("llm", total, frozenset(estimated), model, transformation, texts))

    def on_embedding(
        self, texts: Iterable[str] = (), usage: object = None, *, model: str = "", transformation: str = ""
    ) -> TokenEvent:
        """Count a call of an embedder.

        Args:
            texts: what was embedded: estimated where `usage` has no tokens for it.
            usage: what the provider reported, as for `on_llm`. Its prompt is what was embedded.
            model, transformation: whose call it was.

        Raises:
            TokenBudgetExceeded: with this call, which is counted, more is spent than the budget allows.
        """
        kept = tuple(texts) if self._keep_events else ()
        reported = usage if isinstance(usage, TokenUsage) else TokenUsage.from_provider(usage) or TokenUsage()
        spent, estimated = reported.as_embedding(), frozenset[TokenPart]()
        if not isinstance(usage, TokenUsage) and not spent.embedding:
            counts = self.counter.get_strings_tokens(kept or texts)
            spent = TokenUsage(embedding=sum(counts), estimated=bool(counts))
            estimated = frozenset({"embedding"} if counts else ())
        return self.on_event(TokenEvent("embedding", spent, estimated, model, transformation, kept))

    def on_event(self, event: TokenEvent) -> TokenEvent:
        """Add an event to the bill, and return it.

        Raises:
            TokenBudgetExceeded: with this event, which is counted, more is spent than the budget allows.
        """
        source = (event.model, event.transformation)
        with self._lock:
            self._usage += event.usage
            self._by_source[source] = self._by_source.get(source, TokenUsage()) + event.usage
            if self._keep_events:
                self._events.append(event)
            spent = self._usage.total
        self._log(event, spent)
        if self.token_budget is not None and spent > self.token_budget:
            raise TokenBudgetExceeded(self.token_budget, spent)
        return event

    def check_budget(self, planned: int = 1) -> None:
        """Ask before a call that will cost `planned` tokens or more.

        Raises:
            TokenBudgetExceeded: the budget has fewer tokens left.
        """
        spent = self.usage.total
        if self.token_budget is not None and spent + planned > self.token_budget:
            raise TokenBudgetExceeded(self.token_budget, spent, planned)

    @property
    def usage(self) -> TokenUsage:
        """The sum of everything."""
        with self._lock:
            return self._usage

    @property
    def usage_by_source(self) -> dict[tuple[str, str], TokenUsage]:
        """The sums by (model, transformation)."""
        with self._lock:
            return dict(self._by_source)

    @property
    def events(self) -> list[TokenEvent]:
        """The events so far, oldest first, if the handler was told to keep them; else none."""
        with self._lock:
            return list(self._events)

    @property
    def total_llm_token_count(self) -> int:
        """Tokens of prompts and completions."""
        usage = self.usage
        return usage.prompt + usage.completion

    @property
    def prompt_llm_token_count(self) -> int:
        """Tokens of prompts, those from the provider's cache included."""
        return self.usage.prompt

    @property
    def completion_llm_token_count(self) -> int:
        """Tokens of completions."""
        return self.usage.completion

    @property
    def total_embedding_token_count(self) -> int:
        """Tokens of embedded texts."""
        return self.usage.embedding

    def reset_counts(self) -> None:
        """Begin at 0 again; the budget is whole again, and kept events are gone."""
        with self._lock:
            self._usage = TokenUsage()
            self._by_source.clear()
            self._events.clear()

    def _estimate(self, prompt: Prompt) -> int:
        if prompt is None or isinstance(prompt, str):
            return self.counter.get_string_tokens(prompt or "")
        return self.counter.estimate_tokens_in_messages(prompt)

    def _log(self, event: TokenEvent, spent: int) -> None:
        if self._logger is None and not self._verbose:
            return
        numbers = ", ".join(
            f"{name} {getattr(event.usage, name):,}{' (estimated)' if name in event.estimated else ''}"
            for name in (("embedding",) if event.kind == "embedding" else ("prompt", "completion"))
        )
        line = f"tokens of {event.kind} {event.model or 'call'}: {numbers}; {spent:,} so far"
        if self._logger is None:
            print(line, file=sys.stderr)  # noqa: T201 - asked for
        elif self._verbose:
            self._logger.info(line)
        else:
            self._logger.debug(line)


def _texts(prompt: Prompt, completion: object) -> tuple[str, ...]:
    inputs = prompt if isinstance(prompt, list | tuple) else [prompt]
    return tuple(str(part) for part in (*inputs, completion) if part is not None)
