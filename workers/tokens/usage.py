"""TokenUsage: what a call of a language model or an embedder cost, in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

__all__ = ["TOKEN_PARTS", "ReportedUsage", "TokenEvent", "TokenPart", "TokenUsage", "field_of"]

TokenPart: TypeAlias = Literal["prompt", "completion", "embedding"]
TOKEN_PARTS: tuple[TokenPart, ...] = ("prompt", "completion", "embedding")

# One number under the names that OpenAI's chat, Anthropic and OpenAI's responses, and Gemini give it.
_PROMPT = ("prompt_tokens", "input_tokens", "prompt_token_count")
_COMPLETION = ("completion_tokens", "output_tokens", "candidates_token_count")
# Anthropic leaves these out of `input_tokens`; gateways that speak OpenAI's words have them in `prompt_tokens`.
_ANTHROPIC_CACHE_READ = "cache_read_input_tokens"
_ANTHROPIC_CACHE_CREATION = "cache_creation_input_tokens"
# Gemini leaves what a model thought out of the candidates, and bills it like them.
_GEMINI_THOUGHTS = "thoughts_token_count"
# OpenAI and Gemini have these in the prompt already.
_CACHED_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_GEMINI_CACHED = "cached_content_token_count"


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one call, or the sum of many.

    Attributes:
        prompt: tokens that a language model read, those from the provider's own cache included.
        completion: tokens that a language model wrote.
        embedding: tokens of texts that were embedded.
        cached: how many of `prompt` the provider had in its own cache, and bills at a lower price.
        estimated: a part of the numbers was counted here, because the provider did not report it.
    """

    prompt: int = 0
    completion: int = 0
    embedding: int = 0
    cached: int = 0
    estimated: bool = False

    @classmethod
    def from_provider(cls, mapping: Mapping[str, object] | object | None) -> Self | None:
        """What a provider reports of a language model's call, under whichever names; None if it reports nothing.

        Args:
            mapping: the `usage` of a response, as a mapping or as an object with attributes. A number that is missing
                counts 0. The report on an embedding call is read the same way; `as_embedding` says what it is.
        """
        reported = ReportedUsage.read(mapping)
        if reported.prompt is None and reported.completion is None:
            return None
        return cls(prompt=reported.prompt or 0, completion=reported.completion or 0, cached=reported.cached)

    def as_embedding(self) -> TokenUsage:
        """The same tokens as those of an embedding call: providers report what was embedded as a prompt."""
        return TokenUsage(embedding=self.prompt + self.embedding, estimated=self.estimated)

    @property
    def total(self) -> int:
        """All tokens, each once."""
        return self.prompt + self.completion + self.embedding

    def __add__(self, other: object) -> TokenUsage:
        if not isinstance(other, TokenUsage):
            return NotImplemented
        return TokenUsage(
            prompt=self.prompt + other.prompt,
            completion=self.completion + other.completion,
            embedding=self.embedding + other.embedding,
            cached=self.cached + other.cached,
            estimated=self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One call that was paid for.

    Attributes:
        kind: what was called.
        usage: what it cost.
        estimated: the numbers of `usage` that were counted here, because the provider did not report them.
        model: the model's name, "" if it was not given.
        transformation: the name of the transformation that called, "" if it was not given.
        texts: what went in and came out, if the handler was asked to keep it.
    """

    kind: Literal["llm", "embedding"]
    usage: TokenUsage
    estimated: frozenset[TokenPart] = frozenset()
    model: str = ""
    transformation: str = ""
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportedUsage:
    """What a provider said, and did not say: None is a number that it left out."""

    prompt: int | None = None
    completion: int | None = None
    cached: int = 0

    @classmethod
    def read(cls, usage: Mapping[str, object] | object | None) -> Self:
        """Read a provider's usage, mapping or object. Values that are no whole number from 0 on count as left out."""
        prompt, completion = _first(usage, _PROMPT), _first(usage, _COMPLETION)
        read, created = _tokens(usage, _ANTHROPIC_CACHE_READ), _tokens(usage, _ANTHROPIC_CACHE_CREATION)
        if (read or created) and _tokens(usage, "prompt_tokens") is None:
            prompt = (prompt or 0) + (read or 0) + (created or 0)
        if thoughts := _tokens(usage, _GEMINI_THOUGHTS):
            completion = (completion or 0) + thoughts
        details = (_tokens(field_of(usage, name), "cached_tokens") for name in _CACHED_DETAILS)
        cached = next((count for count in (read, *details, _tokens(usage, _GEMINI_CACHED)) if count is not None), 0)
        return cls(prompt, completion, cached)


def field_of(thing: object, name: str) -> object:
    """A field of a mapping or of an object, None if it has none: wire formats are the one, SDKs give the other."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _first(usage: object, names: tuple[str, ...]) -> int | None:
    return next((count for name in names if (count := _tokens(usage, name)) is not None), None)


def _tokens(usage: object, name: str) -> int | None:
    value = field_of(usage, name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
