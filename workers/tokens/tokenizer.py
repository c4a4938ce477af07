"""Tokenizer: how many tokens a text has. tiktoken is the reference, toktok gives the same numbers faster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from orchestrator.contracts.errors import UnknownName
from workers.tokens.vocabulary import ENCODINGS, ensure_vocabulary

__all__ = ["DEFAULT_ENCODING", "ENCODINGS", "Tokenizer", "get_tokenizer"]

DEFAULT_ENCODING = "cl100k_base"

# By its pattern, a token of an encoding ends with the line break in it, but for these.
_BEYOND_LINES = {"cl100k_base": ("\r",), "o200k_base": ("\r", "\n/"), "o200k_harmony": ("\r", "\n/")}


class Tokenizer:
    """Counts tokens as tiktoken's `encode_ordinary` makes them: `<|endoftext|>` in a text is text like any other.

    Lone surrogates, which UTF-8 cannot hold, count as U+FFFD, and surrogate pairs as the character they encode.

    Attributes:
        encoding: the name of the encoding.
        counter: tokens of a text without lone surrogates; raises UnicodeEncodeError where there are any.
    """

    def __init__(self, encoding: str = DEFAULT_ENCODING, *, accelerated: bool = True) -> None:
        """Load an encoding: 0.1 to 0.3 s. `get_tokenizer` keeps what was loaded.

        Args:
            encoding: one of ENCODINGS.
            accelerated: count with toktok where it is installed.

        Raises:
            UnknownName: the encoding is not one of ENCODINGS.
            ConfigurationError: tiktoken is needed, and its vocabulary cannot be put in place.
        """
        if encoding not in ENCODINGS:
            raise UnknownName("encoding", encoding, ENCODINGS)
        self.encoding = encoding
        self.counter = (_toktok_counter(encoding) if accelerated else None) or _tiktoken_counter(encoding)

    def count(self, text: str) -> int:
        """Tokens of a text."""
        try:
            return self.counter(text)
        except UnicodeEncodeError:
            return self.counter(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))

    def lines_add_up(self, text: str) -> bool:
        """Whether a text has the tokens of its lines together, a line with the blank ones behind it.

        White space at the text's end apart, of which the pattern makes one token, and no further ones.
        """
        return not any(mark in text for mark in _BEYOND_LINES[self.encoding])

    def count_many(self, texts: Iterable[str]) -> list[int]:
        """Tokens of each text, in order."""
        # toktok's own batch call starts threads, which costs more than it gains on chunks of a thousand tokens.
        return [self.count(text) for text in texts]


@cache
def get_tokenizer(name: str = DEFAULT_ENCODING) -> Tokenizer:
    """The tokenizer of an encoding, loaded once a process.

    Raises:
        UnknownName: the encoding is not one of ENCODINGS.
        ConfigurationError: toktok is not installed, and the vocabulary of tiktoken cannot be put in place.
    """
    return Tokenizer(name)


def _toktok_counter(encoding: str) -> Callable[[str], int] | None:
    """toktok's count, which brings its own vocabularies; None where it is not installed."""
    try:
        import toktok
    except ImportError:
        return None
    # The public `batch_count` costs a list and a look-up a text; the private door is held to tiktoken by a test.
    counter: Callable[[str], int] = toktok._encoding(encoding).count
    return counter


def _tiktoken_counter(encoding: str) -> Callable[[str], int]:
    ensure_vocabulary(encoding)
    import tiktoken

    encode = tiktoken.get_encoding(encoding).encode_ordinary
    return lambda text: len(encode(text))
