"""TokenCounter: how many tokens a text has, and about how many a provider will bill for messages and tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from functools import cached_property
from typing import Self, TypeAlias

from orchestrator.contracts.errors import ConfigurationError, UnknownName
from workers.tokens.encodings import encoding_for_model
from workers.tokens.messages import MessageParts, tools_as_json
from workers.tokens.tokenizer import DEFAULT_ENCODING, ENCODINGS, Tokenizer, get_tokenizer

__all__ = ["TokenCounter", "TokenizerLike"]

# An encoding's name, a Tokenizer, or any function that makes tokens of a text, or a number of tokens.
TokenizerLike: TypeAlias = str | Tokenizer | Callable[[str], int | Sized] | None


class TokenCounter:
    """Counts with one tokenizer, for everything. Safe in many threads if the tokenizer is."""

    def __init__(self, tokenizer: TokenizerLike = None) -> None:
        """Nothing is loaded before something is counted.

        Args:
            tokenizer: an encoding (cl100k_base if not given), a Tokenizer, or a function from a text to its tokens or
                to their number.

        Raises:
            UnknownName: the encoding is not one of ENCODINGS.
            ConfigurationError: the tokenizer is nothing of that kind.
        """
        tokenizer = DEFAULT_ENCODING if tokenizer is None else tokenizer
        if isinstance(tokenizer, str):
            if tokenizer not in ENCODINGS:
                raise UnknownName("encoding", tokenizer, ENCODINGS)
        elif not isinstance(tokenizer, Tokenizer) and not callable(tokenizer):
            raise ConfigurationError(
                f"tokenizer must be an encoding's name ({', '.join(sorted(ENCODINGS))}), a Tokenizer or a function of "
                f"a text, not {tokenizer!r}"
            )
        self._tokenizer = tokenizer

    @classmethod
    def for_model(cls, model: str) -> Self:
        """A counter in the encoding of an OpenAI model: o200k_base for gpt-4o.

        Raises:
            ConfigurationError: the model's encoding is not known.
        """
        return cls(encoding_for_model(model))

    def get_string_tokens(self, string: str) -> int:
        """Tokens of a text."""
        return self._count(string)

    def get_strings_tokens(self, strings: Iterable[str]) -> list[int]:
        """Tokens of each text, in order."""
        return [self._count(string) for string in strings]

    def estimate_tokens_in_messages(self, messages: Iterable[object]) -> int:
        """About what a provider bills for chat messages, mappings or objects.

        Per message: its role, its content and 3; 2 less for the roles tool and function; name, arguments and 3 for a
        function call and for each tool call; 2,125 for an image. Content that is neither text nor image counts 0.

        Raises:
            ConfigurationError: one message was given, and not a list of them.
        """
        if isinstance(messages, str | Mapping):
            raise ConfigurationError(f"messages must be a list of messages, not one {type(messages).__name__}")
        total = 0
        for message in messages:
            parts = MessageParts.of(message)
            total += parts.flat + sum(self.get_strings_tokens(parts.texts))
        return total

    def estimate_tokens_in_tools(self, tools: Sequence[object] | None) -> int:
        """About what a provider bills for the description of tools: their JSON; 0 for none.

        Raises:
            ConfigurationError: a tool is nothing that JSON can hold.
        """
        return self._count(tools_as_json(tools)) if tools else 0

    @cached_property
    def _count(self) -> Callable[[str], int]:
        tokenizer = self._tokenizer
        if isinstance(tokenizer, str):
            tokenizer = get_tokenizer(tokenizer)
        if isinstance(tokenizer, Tokenizer):
            return tokenizer.count
        tokenize = tokenizer
        return lambda text: _number_of(tokenize(text))


def _number_of(tokens: object) -> int:
    if isinstance(tokens, int):
        return tokens
    # The length of these is not a number of tokens: Hugging Face's tokenizers, when called, return a mapping.
    if not isinstance(tokens, Sized) or isinstance(tokens, str | bytes | Mapping):
        raise ConfigurationError(
            f"the tokenizer returned a {type(tokens).__name__}; it must return a list of tokens or their number "
            "(of a Hugging Face tokenizer, give the method `encode`)"
        )
    return len(tokens)
