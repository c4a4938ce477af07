"""A text as a row of pieces, each small enough for a chunk, and each ending at the best border there is.

The encodings cut a text by a pattern first, behind line breaks and before white space among others, and no token
reaches across. So where pieces meet there, the tokens of both are the sum of each one's; elsewhere the sum is near.
Behind line breaks the sum is exact where the tokenizer says so.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import accumulate, pairwise

from workers.tokens.tokenizer import Tokenizer
from workers.transformations.chunking import Chunk

__all__ = ["Border", "TextPieces"]


class Border(IntEnum):
    """What ends where a piece ends; the greater, the better to cut there."""

    CHARACTER = 0
    WORD = 1
    SENTENCE = 2
    LINE = 3
    PARAGRAPH = 4  # a blank line
    SECTION = 5  # two blank lines or more


_FINER_THAN = {Border.LINE: Border.SENTENCE, Border.SENTENCE: Border.WORD, Border.WORD: Border.CHARACTER}
# To look up a member takes longer than to find a border.
_LINE, _PARAGRAPH, _SECTION = Border.LINE, Border.PARAGRAPH, Border.SECTION

_MARKS = r"\u3099\u309a\ufe00-\ufe0f\U000e0100-\U000e01ef"  # voicing marks and variation selectors
_IDEOGRAPH = r"\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"

_BLANK_LINES = re.compile(r"\n\s*\n")
_INNER = {
    Border.LINE: re.compile(r"\n"),
    # A full stop before a small letter ends an abbreviation. In scripts without spaces the sign alone tells.
    # A row of signs is tried once, as a whole: a million dots would else be tried from each dot on.
    Border.SENTENCE: re.compile(
        r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s+[^\sa-z])|[。！？｡][。！？｡」』”’）]*"""  # noqa: RUF001 - meant
    ),
    Border.WORD: re.compile(rf"\s*(?:[{_IDEOGRAPH}][{_MARKS}]*|[^\s{_IDEOGRAPH}]+)"),
}
_LONG_BLANK = 256  # characters of white space with blank lines in it: a hole, and in no chunk with anything else
_CHARACTERS_A_TOKEN = 4  # a first guess, doubled until it is too many


class TextPieces:
    """The pieces of a text: paragraphs, and in place of those larger than a chunk their lines, sentences, words, parts.

    Attributes:
        offsets: where each piece begins, in characters, and the end of the last.
        totals: tokens of the text before each of these places.
        borders: what ends where each piece ends.

    Raises:
        UnicodeEncodeError: the text holds lone surrogates.
    """

    def __init__(self, text: str, size: int, tokenizer: Tokenizer) -> None:
        """Find them.

        Args:
            text: what to divide.
            size: tokens that a piece may have, white space around it apart.
            tokenizer: counts the tokens of a text.
        """
        self.offsets = [0]
        self.totals = [0]
        self.borders: list[Border] = []
        self._text = text
        self._size = size
        self._count = tokenizer.counter
        self._lines_add_up = tokenizer.lines_add_up(text)
        start = 0
        ends: list[int] = []
        borders: list[Border] = []
        for blank in _BLANK_LINES.finditer(text):
            first, end = blank.span()
            length = end - first
            borders.append(_SECTION if length > 2 and text.count("\n", first, end) > 2 else _PARAGRAPH)
            if length < _LONG_BLANK:
                ends.append(end)
            else:
                self._add(start, [*ends, first], borders, _LINE)
                self._extend([end], [_SECTION], [size + 1])  # too many to share a chunk
                start, ends, borders = end, [], []
        self._add(start, [*ends, len(text)], [*borders, _SECTION], _LINE)

    def __len__(self) -> int:
        return len(self.borders)

    def best_border(self, after: int, last: int) -> int:
        """How many pieces there are up to the last of the best borders behind piece `after`, `last` pieces at most."""
        if last == len(self):
            return last
        best = max(self.borders[after:last])
        while self.borders[last - 1] < best:
            last -= 1
        return last

    def chunk(self, first: int, last: int) -> Chunk:
        """Pieces[first:last] as one, without white space around them."""
        text = self._text[self.offsets[first] : self.offsets[last]].lstrip()
        start = self.offsets[last] - len(text)
        text = text.rstrip()
        return Chunk(start, text, self._tokens(first, last, start, text))

    def _tokens(self, first: int, last: int, start: int, text: str) -> int:
        """Tokens of the text, which begins at `start`: pieces[first:last] without white space around them."""
        head, tail = self.offsets[first + 1] - start, self.offsets[last - 1] - start
        if 0 < head < tail < len(text) and self._lines_add_up and min(self.borders[first : last - 1]) >= _LINE:
            # Only its first and its last piece differ from those that have been counted.
            between = self.totals[last - 1] - self.totals[first + 1]
            return self._count(text[:head]) + between + self._count(text[tail:])
        return self._count(text)

    def _add(self, start: int, ends: Sequence[int], borders: Sequence[Border], finer: Border | None) -> None:
        """Add the pieces from `start` to each of the ends; those that are too large, in pieces with finer borders."""
        text, count, size = self._text, self._count, self._size
        counts = [count(text[first:last]) for first, last in pairwise((start, *ends))]
        begin = 0
        too_large = [place for place, tokens in enumerate(counts) if tokens > size] if max(counts) > size else []
        for place in too_large:
            first, last = ends[place - 1] if place else start, ends[place]
            if finer is None or self._count(self._text[first:last].strip()) <= self._size:
                continue
            self._extend(ends[begin:place], borders[begin:place], counts[begin:place])
            inner = list(self._inner(first, last, finer))
            self._add(first, [*inner, last], [finer] * len(inner) + [borders[place]], _FINER_THAN.get(finer))
            begin = place + 1
        self._extend(ends[begin:], borders[begin:], counts[begin:])

    def _extend(self, ends: Iterable[int], borders: Iterable[Border], counts: Iterable[int]) -> None:
        self.offsets += ends
        self.borders += borders
        self.totals += accumulate(counts, initial=self.totals.pop())

    def _inner(self, start: int, end: int, finer: Border) -> Iterator[int]:
        """Where text[start:end] can be cut, white space at its end apart."""
        if finer is Border.CHARACTER:
            yield from self._parts(start, end)
            return
        end = start + len(self._text[start:end].rstrip())
        for found in _INNER[finer].finditer(self._text, start, end):
            if found.end() < end:
                yield found.end()

    def _parts(self, start: int, end: int) -> Iterator[int]:
        """Cut text[start:end] into parts that fill a chunk each."""
        while (border := self._longest(start, end)) < end:
            yield border
            start = border

    def _longest(self, start: int, end: int) -> int:
        """Where the longest part of text[start:end] ends that begins there and fits; it has one character at least."""
        low, high = start + 1, min(end, start + _CHARACTERS_A_TOKEN * self._size)
        while self._count(self._text[start:high]) <= self._size:
            if high == end:
                return end
            low, high = high, min(end, high + high - start)
        while high - low > 1:
            middle = (low + high) // 2
            if self._count(self._text[start:middle]) <= self._size:
                low = middle
            else:
                high = middle
        return _before_marks(self._text, start, low)


def _before_marks(text: str, start: int, end: int) -> int:
    """The last place up to `end` that parts no character from its marks, if there is one behind `start`."""
    border = end
    while border > start + 1 and (unicodedata.category(text[border])[0] == "M" or _joins(text, border)):
        border -= 1
    return border if border > start + 1 else end


def _joins(text: str, at: int) -> bool:
    """Whether an emoji goes on there: a joiner on either side, or a tone of skin."""
    return "\u200d" in text[at - 1 : at + 1] or "\U0001f3fb" <= text[at] <= "\U0001f3ff"
