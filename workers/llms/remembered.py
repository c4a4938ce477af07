"""Remembered answers: what was asked and paid for once is not paid for again, whatever became of the rest.

The cache of a step knows whole documents. Of a document that failed half-way, or was edited in one place, most
questions have been answered before: those answers are kept here one by one, as soon as they are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.caches.ingestion_cache import IngestionCache
    from workers.llms.contract import LLM

__all__ = ["known_answers", "remember", "remembering"]

_cache: ContextVar[IngestionCache | None] = ContextVar("docmill_answers", default=None)


@contextmanager
def remembering(cache: IngestionCache) -> Iterator[None]:
    """Within the block, answers are kept in this cache and found there; elsewhere every question is asked."""
    token = _cache.set(cache)
    try:
        yield
    finally:
        _cache.reset(token)


def known_answers(llm: LLM, prompts: Sequence[str], max_tokens: int | None) -> dict[str, str]:
    """{prompt: answer} of the prompts that this model has answered before; one round trip."""
    cache = _cache.get()
    if cache is None:
        return {}
    keys = {prompt: cache.answer_key(llm.model, prompt, max_tokens, llm.server) for prompt in prompts}
    found = cache.answers(list(keys.values()))
    return {prompt: found[key] for prompt, key in keys.items() if key in found}


def remember(llm: LLM, prompt: str, max_tokens: int | None, answer: str) -> None:
    """Keep an answer."""
    cache = _cache.get()
    if cache is not None:
        cache.put_answers({cache.answer_key(llm.model, prompt, max_tokens, llm.server): answer})
