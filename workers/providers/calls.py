"""Calls of providers, as spans: each request by itself, with the tokens that it cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.contracts.traces import is_tracing, span
from workers.tokens.spending import collecting

__all__ = ["provider_call"]


@contextmanager
def provider_call(model: str) -> Iterator[None]:
    """The span of one call of a model, by its registered name; names of attributes are OpenTelemetry's."""
    if not is_tracing():
        yield
        return
    name = model.partition(" ")[0]  # a component's parameters come after its name
    with (
        span(f"call {name}", kind="client", attributes={"gen_ai.request.model": model}) as found,
        collecting() as paid,
    ):
        try:
            yield
        finally:
            total = paid.total
            tokens = {
                "gen_ai.usage.input_tokens": total.prompt + total.embedding,
                "gen_ai.usage.output_tokens": total.completion,
            }
            found.set({name: count for name, count in tokens.items() if count})
