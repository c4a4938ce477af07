"""Single flight: of two workers that miss the same vectors at the same moment, one asks the service, the other waits.

Best effort, and worth its few round trips only before a service is asked. Nothing depends on it: whoever waits for
too long asks the service as well, and pays for the same vectors once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from workers.caches.ingestion_cache import IngestionCache

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors: TypeAlias = dict[str, NDArray[np.float32]]

__all__ = ["in_single_flight"]

_CLAIM_SECONDS = 20.0  # longer than a service mostly takes to answer; of a worker that died, others wait so long
_PATIENCE_SECONDS = 20.0
_PAUSE_SECONDS = 0.1


def in_single_flight(
    cache: IngestionCache,
    keys: Sequence[str],
    dimension: int,
    work_out: Callable[[Sequence[str]], Vectors],
    *,
    size: int,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Vectors:
    """The vectors of these keys, of which others may be asking for some.

    Args:
        work_out: asks the service for some of them, and stores them in the cache.
        size: keys a call of it, at most.

    Raises:
        Exception: whatever `work_out` raises; nothing stays claimed then.
    """
    vectors, others = _work_out_ours(cache, keys, dimension, work_out, size, cache.claim)
    deadline = clock() + _PATIENCE_SECONDS
    while others:
        pause(_PAUSE_SECONDS)
        vectors |= cache.embeddings(others, dimension)
        others = [key for key in others if key not in vectors]
        claim = cache.claim if clock() < deadline else _all
        more, others = _work_out_ours(cache, others, dimension, work_out, size, claim)
        vectors |= more
    return vectors


def _work_out_ours(
    cache: IngestionCache,
    keys: Sequence[str],
    dimension: int,
    work_out: Callable[[Sequence[str]], Vectors],
    size: int,
    claim: Callable[[Sequence[str], float], list[str]],
) -> tuple[Vectors, list[str]]:
    """The vectors of the keys that nobody else has claimed, and the other keys."""
    vectors: Vectors = {}
    others: list[str] = []
    for start in range(0, len(keys), size):
        part = keys[start : start + size]
        ours = claim(part, _CLAIM_SECONDS)
        others += [key for key in part if key not in set(ours)]
        try:
            # Once more: who had claimed them before may have stored them meanwhile.
            vectors |= cache.embeddings(ours, dimension)
            if missing := [key for key in ours if key not in vectors]:
                vectors |= work_out(missing)
        finally:
            cache.release(ours)
    return vectors, others


def _all(keys: Sequence[str], seconds: float) -> list[str]:
    return list(keys)
