"""WordLlama: static token vectors, averaged. Fast on any CPU, small, and complete within its wheel."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.embedders.vectors import scale_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["WordLlamaEmbedder"]

_DIMENSION = 256
_BLOCK_TOKENS = 8192  # token vectors gathered at once: 8 MB, however long the text


class WordLlamaEmbedder:
    """The `l2_supercat` vectors of 256 dimensions that the wheel carries. Never asks the network.

    The vectors are pooled here, one text after another: the library pads each batch to its longest text, which costs
    half the speed, and a gigabyte of memory a million tokens.
    """

    model = "wordllama/l2_supercat_256"
    asks_a_service = False
    server = ""
    dimension = _DIMENSION

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, of length 1; 0 for a text without tokens."""
        import numpy as np

        vectors = np.zeros((len(texts), _DIMENSION), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            ids = self._token_ids(text)
            for start in range(0, len(ids), _BLOCK_TOKENS):
                row += self._table.take(ids[start : start + _BLOCK_TOKENS], axis=0).sum(axis=0)
        return scale_rows(vectors)

    def _token_ids(self, text: str) -> list[int]:
        # A batch of one stays on this thread; the worker's processes share the cores already.
        ids: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    @cached_property
    def _inference(self) -> Any:
        with _root_logger_kept():
            import wordllama

            return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        """A vector a token, shape (vocabulary, dimension)."""
        table: NDArray[np.float32] = self._inference.embedding
        return table

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = self._inference.tokenizer
        tokenizer.no_padding()
        return tokenizer


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Importing wordllama calls `logging.basicConfig`; a library may not decide how its host logs."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
