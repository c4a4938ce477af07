"""The port of an embedder: texts in, one float32 matrix out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Embedder"]


class Embedder(Protocol):
    """Turns texts into vectors. One instance lives as long as its worker process.

    Attributes:
        model: names the vectors: equal model, comparable vectors. Goes into the cache's keys and into the collection.
        dimension: floats a vector.
        asks_a_service: vectors are made elsewhere, for money or at least much time, so that two workers should not ask
            for the same ones at the same moment.
        server: the address that is asked, without secrets; "" where there is none, or `model` says it. Goes into the
            cache's keys: two servers may mean two things by one name.
    """

    @property
    def model(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def asks_a_service(self) -> bool: ...

    @property
    def server(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, shape (len(texts), dimension), C-contiguous, of length 1 each (an empty text may be 0).

        Raises:
            TransientError: a service did not answer; trying again may help.
            TerminalError: it never will.
        """
        ...
