"""SentenceSplitter: chunks of plain text, cut at sections, paragraphs, lines, sentences and words, in this order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import ClassVar

from workers.tokens.tokenizer import get_tokenizer
from workers.transformations.chunking import Chunk, TokenSplitter
from workers.transformations.contract import transformation
from workers.transformations.text_pieces import TextPieces

__all__ = ["SentenceSplitter"]


@transformation("sentence_splitter", version=2)
class SentenceSplitter(TokenSplitter):
    """Split plain text: `SentenceSplitter(chunk_size=512, chunk_overlap=64)`.

    A chunk ends at the last of the best borders within its size. What fits into a chunk by itself is not cut: where
    there is no room for both, the overlap gives way.
    """

    cacheable: ClassVar[bool] = False

    def chunks(self, text: str) -> Iterator[Chunk]:
        """The chunks of a text, in order; none of white space alone.

        Raises:
            UnicodeEncodeError: it holds lone surrogates.
        """
        pieces = TextPieces(text, self.chunk_size, get_tokenizer(self.tokenizer))
        first = last = 0
        while last < len(pieces):
            first, last, chunk = self._fill(pieces, self._overlapping(pieces, first, last), last)
            if chunk.token_count > self.chunk_size and len(chunk.text) > 1:
                # It fitted with the white space around it: a word has more tokens without the space before it.
                yield from (part._replace(start=chunk.start + part.start) for part in self.chunks(chunk.text))
            elif chunk.text:
                yield chunk

    def _fill(self, pieces: TextPieces, first: int, done: int) -> tuple[int, int, Chunk]:
        """The next chunk, pieces[first:last], from `first` or later, and beyond `done`: (first, last, chunk)."""
        totals = pieces.totals
        first = min(done, max(first, bisect_left(totals, totals[done + 1] - self.chunk_size)))
        # A line break at the end is a token, and is dropped.
        reach = max(done + 1, bisect_right(totals, totals[first] + self.chunk_size + 1) - 1)
        while True:
            last = pieces.best_border(done, reach)
            chunk = pieces.chunk(first, last)
            if chunk.token_count <= self.chunk_size or last - first == 1:
                return first, last, chunk
            if last > done + 1:
                reach = last - 1
            else:
                first += 1

    def _overlapping(self, pieces: TextPieces, first: int, last: int) -> int:
        """The piece with which to repeat the end of the chunk pieces[first:last] in the next one; else `last`."""
        totals = pieces.totals
        first = min(last, max(first + 1, bisect_left(totals, totals[last] - self.chunk_overlap)))
        while first < last and pieces.chunk(first, last).token_count > self.chunk_overlap:
            first += 1
        return first
