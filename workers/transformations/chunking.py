"""What the splitters share: a node replaced by chunks of at most so many tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import Field, ValidationInfo, field_validator

from orchestrator.contracts.errors import DocumentError, UnknownName
from orchestrator.contracts.nodes import Node
from workers.tokens.tokenizer import DEFAULT_ENCODING, ENCODINGS
from workers.transformations.contract import Transformation

__all__ = ["Chunk", "TokenSplitter"]


class Chunk(NamedTuple):
    """A piece of a text.

    Attributes:
        start: of its first character, in characters.
        text: without white space around it, as a rule.
        token_count: its tokens, exactly.
    """

    start: int
    text: str
    token_count: int


class TokenSplitter(Transformation):
    """Splits texts at the best borders that keep every chunk within `chunk_size` tokens.

    White space around chunks is dropped as a rule, all other text is in at least one chunk. A single character that
    has more tokens than `chunk_size` stands alone, which can only happen below 4.

    Attributes:
        chunk_size: tokens a chunk at most.
        chunk_overlap: tokens at most that a chunk repeats of the one before.
        tokenizer: the encoding that tokens are counted in.
    """

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
        try:
            return [chunk for node in nodes for chunk in self._split(node)]
        except UnicodeEncodeError as error:
            raise DocumentError(
                self.name,
                f"the text holds the lone surrogate {error.object[error.start]!r}, which UTF-8 cannot hold; "
                "`parse` as the first transformation replaces such characters",
            ) from error

    @abstractmethod
    def chunks(self, text: str) -> Iterable[Chunk]:
        """The chunks of a text, in order; none of white space alone.

        Raises:
            UnicodeEncodeError: it holds lone surrogates.
        """

    def _split(self, node: Node) -> Iterable[Node]:
        base = node.start
        for start, text, token_count in self.chunks(node.text):
            first = None if base is None else base + start
            last = None if first is None else first + len(text)
            yield Node(text=text, metadata=dict(node.metadata), start=first, end=last, token_count=token_count)
