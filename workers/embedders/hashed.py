"""Feature hashing of words: vectors that cost nothing, for tests."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workers.embedders.vectors import scale_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["HashedEmbedder"]

_WORD = re.compile(r"\w+")


class HashedEmbedder:
    """Counts words in hashed buckets. For tests only: equal words are near, equal meanings are not."""

    asks_a_service = False
    server = ""

    def __init__(self, dimension: int = 256) -> None:
        self.dimension = dimension
        self.model = f"hashed/{dimension}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, of length 1; 0 for a text without words."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            words = _WORD.findall(text.lower())
            buckets = [zlib.crc32(word.encode("utf-8", "surrogatepass")) % self.dimension for word in words]
            row += np.bincount(np.array(buckets, dtype=np.intp), minlength=self.dimension)
        return scale_rows(vectors)
