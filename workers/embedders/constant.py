"""One vector for every text: an embedder that costs nothing, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ConstantEmbedder"]


class ConstantEmbedder:
    """Gives every text the same vector. For tests and benchmarks only: a search over it finds anything."""

    asks_a_service = False
    server = ""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.model = f"constant/{dimension}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, all alike, of length 1."""
        import numpy as np

        return np.full((len(texts), self.dimension), self.dimension**-0.5, dtype=np.float32)
