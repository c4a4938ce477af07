"""PromptHelper: fits texts into a model's context window, beside the prompt and the room for its answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Self

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.settings import Settings, load_settings
from workers.tokens.counter import TokenCounter, TokenizerLike

__all__ = ["DEFAULT_PADDING", "PromptHelper"]

DEFAULT_PADDING = 5  # tokens a text that joining it to the prompt may cost

# No token of the encodings that are carried has more characters: what lies beyond needs no counting.
_MAX_CHARACTERS_PER_TOKEN = 128
# A long run of blank lines says nothing, and costs the splitter a step for every pair of them.
_BLANK_RUN = re.compile(r"\n\s{255,}")


class PromptHelper:
    """Cuts and packs texts for a prompt. A prompt is a text, without what will be filled in, or chat messages."""

    def __init__(
        self,
        context_window: int = 3900,
        num_output: int = 256,
        chunk_overlap_ratio: float = 0.1,
        chunk_size_limit: int | None = None,
        tokenizer: TokenizerLike = None,
    ) -> None:
        """Nothing is loaded before something is fitted.

        Args:
            context_window: tokens of prompt and answer together.
            num_output: tokens kept free for the answer.
            chunk_overlap_ratio: share of a chunk that `repack` may repeat of the one before.
            chunk_size_limit: tokens a chunk at most, whatever would fit.
            tokenizer: as of a TokenCounter.

        Raises:
            UnknownName, ConfigurationError: a value is out of range, or the tokenizer is none.
        """
        if context_window < 1:
            raise ConfigurationError(f"context_window must be at least 1 token, not {context_window}")
        if not 0 <= num_output < context_window:
            raise ConfigurationError(
                f"num_output must be from 0 to less than context_window {context_window}, not {num_output}"
            )
        if not 0 <= chunk_overlap_ratio < 1:
            raise ConfigurationError(f"chunk_overlap_ratio must be from 0 to less than 1, not {chunk_overlap_ratio}")
        if chunk_size_limit is not None and chunk_size_limit < 1:
            raise ConfigurationError(f"chunk_size_limit must be at least 1 token, or None, not {chunk_size_limit}")
        self.context_window = context_window
        self.num_output = num_output
        self.chunk_overlap_ratio = chunk_overlap_ratio
        self.chunk_size_limit = chunk_size_limit
        self.counter = TokenCounter(tokenizer)

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Self:
        """With the context window, the room for the answer and the tokenizer of the settings; default: those of now."""
        settings = settings or load_settings()
        return cls(settings.context_window, settings.num_output, tokenizer=settings.tokenizer)

    def available_context_size(self, prompt: str | Sequence[object], *, tools: Sequence[object] | None = None) -> int:
        """Tokens that are left for texts, beside the prompt, the tools and the answer.

        Raises:
            ConfigurationError: none is left.
        """
        if isinstance(prompt, str):
            size = self.counter.get_string_tokens(prompt)
        else:
            size = self.counter.estimate_tokens_in_messages(prompt)
        size += self.counter.estimate_tokens_in_tools(tools)
        room = self.context_window - self.num_output
        if size >= room:
            raise ConfigurationError(
                f"a prompt of {size:,} tokens leaves no room for text: context_window {self.context_window:,} less "
                f"num_output {self.num_output:,} is {room:,}; shorten the prompt, or use a model with a larger window"
            )
        return room - size

    def available_chunk_size(
        self,
        prompt: str | Sequence[object],
        num_chunks: int = 1,
        padding: int = DEFAULT_PADDING,
        *,
        tools: Sequence[object] | None = None,
    ) -> int:
        """Tokens that each of `num_chunks` texts may have, if all of them go into the prompt.

        Args:
            padding: tokens a chunk that are kept free.

        Raises:
            ConfigurationError: there is not a token for each of them.
        """
        if num_chunks < 1:
            raise ConfigurationError(f"num_chunks must be at least 1, not {num_chunks}")
        if padding < 0:
            raise ConfigurationError(f"padding must be at least 0 tokens, not {padding}")
        available = self.available_context_size(prompt, tools=tools)
        size = available // num_chunks - padding
        if size < 1:
            raise ConfigurationError(
                f"{num_chunks:,} texts do not fit beside the prompt: {available:,} tokens are left for them, less a "
                f"padding of {padding} each; use fewer texts, or a model with a larger window"
            )
        return size if self.chunk_size_limit is None else min(size, self.chunk_size_limit)

    def truncate(
        self,
        prompt: str | Sequence[object],
        text_chunks: Sequence[str],
        padding: int = DEFAULT_PADDING,
        *,
        tools: Sequence[object] | None = None,
    ) -> list[str]:
        """The beginning of each text, so that all of them fit into one prompt together. Cut between words or better.

        Raises:
            ConfigurationError: there is not a token for each of them.
        """
        if not text_chunks:
            return []
        size = self.available_chunk_size(prompt, len(text_chunks), padding, tools=tools)
        return [self._beginning(text, size) for text in text_chunks]

    def repack(
        self,
        prompt: str | Sequence[object],
        text_chunks: Iterable[str],
        padding: int = DEFAULT_PADDING,
        *,
        tools: Sequence[object] | None = None,
    ) -> list[str]:
        """The same texts in as few chunks as can be, each of which fits into one prompt. Empty texts are left out.

        Raises:
            ConfigurationError: the prompt leaves no room.
        """
        size = self.available_chunk_size(prompt, 1, padding, tools=tools)
        joined = "\n\n".join(stripped for text in text_chunks if (stripped := text.strip()))
        return self._split(joined, size, overlap=int(size * self.chunk_overlap_ratio))

    def _beginning(self, text: str, size: int) -> str:
        within = text[: size * _MAX_CHARACTERS_PER_TOKEN]
        if within == text and self.counter.get_string_tokens(text) <= size:
            return text
        first = next(iter(self._split(within, size, overlap=0)), "")
        # One character may have more tokens than a very small size allows.
        return first if self.counter.get_string_tokens(first) <= size else ""

    def _split(self, text: str, size: int, overlap: int) -> list[str]:
        import semantic_text_splitter

        splitter = semantic_text_splitter.TextSplitter.from_callback(
            self.counter.get_string_tokens, size, overlap=overlap, trim=True
        )
        # Surrogates are no text: neither the splitter nor a provider takes them.
        clean = _BLANK_RUN.sub("\n\n", text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        chunks: list[str] = splitter.chunks(clean)
        return chunks
