"""MarkdownSplitter: chunks of Markdown, by `semantic-text-splitter`, which reads it as CommonMark does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

from workers.tokens.tokenizer import get_tokenizer
from workers.transformations.chunking import Chunk, TokenSplitter
from workers.transformations.contract import transformation

__all__ = ["MarkdownSplitter"]

# The library's time grows with the square of the text: 13 MB/s on blocks of this size, 2 MB/s on 10 MB at once.
_BLOCK_CHARACTERS = 128 * 1024
_BLOCK_CHARACTERS_PER_TOKEN = 128  # some 30 chunks a block at least, as there is no overlap from block to block

# A long run of blank lines costs the library a step for every pair of them: minutes for 100,000 newlines.
_BLANK_RUN = re.compile(r"\n\s{255,}")


class _Splitter(Protocol):
    """What is used of the library's splitter."""

    def chunk_indices(self, text: str) -> list[tuple[int, str]]: ...


@transformation("markdown_splitter", version=1)
class MarkdownSplitter(TokenSplitter):
    """Split Markdown at headings, blocks and inline elements before sentences and words.

    `MarkdownSplitter(chunk_size=512, chunk_overlap=64)`. Texts of more than about 128,000 characters are cut at
    paragraphs into blocks first, and chunks of different blocks do not overlap.
    """

    def chunks(self, text: str) -> Iterator[Chunk]:
        """The chunks of a text, in order; none of white space alone.

        Raises:
            UnicodeEncodeError: it holds lone surrogates.
        """
        count = get_tokenizer(self.tokenizer).counter
        size = max(_BLOCK_CHARACTERS, _BLOCK_CHARACTERS_PER_TOKEN * self.chunk_size)
        for offset, block in _blocks(text, size):
            for start, chunk in self._chunk_indices(block):
                if not chunk.isspace():  # the library trims what Rust calls white space, which is less than Python does
                    yield Chunk(offset + start, chunk, count(chunk))

    def _chunk_indices(self, block: str) -> list[tuple[int, str]]:
        """(offset, chunk) of each chunk of a block, offsets in characters."""
        parameters = (self.chunk_size, self.chunk_overlap, self.tokenizer)
        try:
            return _load_splitter(*parameters, trim=True).chunk_indices(block)
        except BaseException as error:
            # Markdown, overlap and more blank lines than fit into a chunk, together, can make the library trim a
            # chunk past the start of the next one; it then panics, which is no Exception, and nobody's to import.
            # Untrimmed chunks stand in order.
            if type(error).__name__ != "PanicException":
                raise
            return _load_splitter(*parameters, trim=False).chunk_indices(block)


@lru_cache(maxsize=64)
def _load_splitter(chunk_size: int, chunk_overlap: int, tokenizer: str, *, trim: bool) -> _Splitter:
    """The library's splitter for these parameters, made once a process."""
    import semantic_text_splitter

    splitter: _Splitter = semantic_text_splitter.MarkdownSplitter.from_callback(
        get_tokenizer(tokenizer).counter, chunk_size, overlap=chunk_overlap, trim=trim
    )
    return splitter


def _blocks(text: str, size: int) -> Iterator[tuple[int, str]]:
    """Cut a text where blank runs are long, and into at most `size` characters. Yields (offset, block)."""
    start = 0
    for run in _BLANK_RUN.finditer(text):
        yield from _sized_blocks(text, start, run.start(), size)
        start = run.end()
    yield from _sized_blocks(text, start, len(text), size)


def _sized_blocks(text: str, start: int, end: int, size: int) -> Iterator[tuple[int, str]]:
    """Cut text[start:end] at the last paragraph, line or space that keeps a block within `size`."""
    while end - start > size:
        border = _border(text, start + size // 2, start + size)
        yield start, text[start:border]
        start = border
    if start < end:
        yield start, text[start:end]


def _border(text: str, low: int, high: int) -> int:
    for separator in ("\n\n", "\n", " "):
        found = text.rfind(separator, low, high)
        if found != -1:
            return found + len(separator)
    return high
