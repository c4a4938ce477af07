"""What the splitters share: a text cut into chunks of at most so many tokens, by `semantic-text-splitter`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import ClassVar, Protocol

from pydantic import Field, ValidationInfo, field_validator

from orchestrator.contracts.errors import DocumentError, UnknownName
from orchestrator.contracts.nodes import Node
from workers.tokens.tokenizer import DEFAULT_ENCODING, ENCODINGS, get_tokenizer
from workers.transformations.contract import Transformation

__all__ = ["TokenSplitter"]

# The library's time grows with the square of the text: 13 MB/s on blocks of this size, 2 MB/s on 10 MB at once.
_BLOCK_CHARACTERS = 128 * 1024
_BLOCK_CHARACTERS_PER_TOKEN = 128  # some 30 chunks a block at least, as there is no overlap from block to block

# A long run of blank lines costs the library a step for every pair of them: minutes for 100,000 newlines.
_BLANK_RUN = re.compile(r"\n\s{255,}")


class _Splitter(Protocol):
    """What is used of the library's splitters."""

    def chunk_indices(self, text: str) -> list[tuple[int, str]]: ...


class TokenSplitter(Transformation):
    """Splits texts at the best borders that keep every chunk within `chunk_size` tokens.

    White space around chunks is dropped as a rule, all other text is in at least one chunk. A single character that
    has more tokens than `chunk_size` stands alone, which can only happen below 4. Texts of more than about 128,000
    characters are cut at paragraphs into blocks first, and chunks of different blocks do not overlap.

    Attributes:
        chunk_size: tokens a chunk at most.
        chunk_overlap: tokens at most that a chunk repeats of the one before.
        tokenizer: the encoding that tokens are counted in.
    """

    library_class: ClassVar[str]  # the class of semantic_text_splitter that does the work

    chunk_size: int = Field(default=1024, ge=1)
    chunk_overlap: int = Field(default=200, ge=0, validate_default=True)
    tokenizer: str = DEFAULT_ENCODING

    @field_validator("chunk_overlap")
    @classmethod
    def _overlap_below_size(cls, value: int, info: ValidationInfo) -> int:
        size = info.data.get("chunk_size")
        if size is not None and value >= size:
            raise ValueError(f"chunk_overlap {value} must be smaller than chunk_size {size}; give both")
        return value

    @field_validator("tokenizer")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        if value not in ENCODINGS:
            raise UnknownName("encoding", value, ENCODINGS)
        return value

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Replace each node by its chunks, which carry its metadata, their span and their token count.

        Raises:
            DocumentError: a text holds lone surrogates, which are no text at all.
        """
        return [chunk for node in nodes for chunk in self._split(node)]

    def _split(self, node: Node) -> list[Node]:
        size = max(_BLOCK_CHARACTERS, _BLOCK_CHARACTERS_PER_TOKEN * self.chunk_size)
        try:
            spans = [
                (offset + start, chunk)
                for offset, block in _blocks(node.text, size)
                for start, chunk in self._chunk_indices(block)
                if not chunk.isspace()  # the library trims what Rust calls white space, which is less than Python does
            ]
        except UnicodeEncodeError as error:
            raise DocumentError(
                self.name,
                f"the text holds the lone surrogate {error.object[error.start]!r}, which UTF-8 cannot hold; "
                "`parse` as the first transformation replaces such characters",
            ) from error
        counts = get_tokenizer(self.tokenizer).count_many(chunk for _, chunk in spans)
        base = node.start
        return [
            Node(
                text=chunk,
                metadata=dict(node.metadata),
                start=None if base is None else base + start,
                end=None if base is None else base + start + len(chunk),
                token_count=count,
            )
            for (start, chunk), count in zip(spans, counts, strict=True)
        ]

    def _chunk_indices(self, block: str) -> list[tuple[int, str]]:
        """(offset, chunk) of each chunk of a block, offsets in characters."""
        parameters = (self.library_class, self.chunk_size, self.chunk_overlap, self.tokenizer)
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
def _load_splitter(library_class: str, chunk_size: int, chunk_overlap: int, tokenizer: str, *, trim: bool) -> _Splitter:
    """The library's splitter for these parameters, made once a process."""
    import semantic_text_splitter

    splitter: _Splitter = getattr(semantic_text_splitter, library_class).from_callback(
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
