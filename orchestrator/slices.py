"""Slices: a source of documents in pieces, each of which is one look into the ledger and one transaction."""

import time
from collections.abc import Callable, Iterable, Iterator

from orchestrator.contracts.documents import Document
from orchestrator.dedupe import Numbered

__all__ = ["slices"]

_FIRST_SHARE = 8  # the first slice holds an eighth, and every one twice as many as the one before
_LONGEST_SECONDS = 1.0


def slices(
    source: Iterable[Document], size: int, clock: Callable[[], float] = time.monotonic
) -> Iterator[list[Numbered]]:
    """The documents of a source with their places in it, in slices of `size` at most; none is empty.

    The first slices are small, and a slow source fills none: workers begin while the source is still being read.

    Raises:
        Exception: whatever the source raises, once all that it gave before is handed on.
    """
    limit = max(1, size // _FIRST_SHARE)
    found: list[Numbered] = []
    began = clock()
    try:
        for numbered in enumerate(source):
            found.append(numbered)
            if len(found) >= limit or clock() - began >= _LONGEST_SECONDS:
                yield found
                limit = min(size, 2 * limit)
                found = []
                began = clock()
    except Exception:
        if found:
            yield found
        raise
    if found:
        yield found
