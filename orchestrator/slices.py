"""Slices: a source of documents in pieces, each of which is one look into the ledger and one transaction."""

import time
from collections.abc import Callable, Iterable, Iterator

from orchestrator.contracts.documents import Document, SplitDocument
from orchestrator.dedupe import Numbered

__all__ = ["slices"]

_FIRST_SHARE = 8  # the first slice holds an eighth, and every one twice as many as the one before
_LONGEST_SECONDS = 1.0
_MOST_CHARACTERS = 4_000_000  # of texts that a caller hands in; a file is only named here


def slices(
    source: Iterable[Document], size: int, clock: Callable[[], float] = time.monotonic
) -> Iterator[list[Numbered]]:
    """The documents of a source with their places in it, in slices of `size` at most; none is empty.

    The first slices are small, and a slow source fills none: workers begin while the source is still being read.
    Neither does a source of large texts: they are in memory.

    Raises:
        Exception: whatever the source raises, once all that it gave before is handed on.
    """
    limit = max(1, size // _FIRST_SHARE)
    found: list[Numbered] = []
    characters = 0
    began = clock()
    try:
        for numbered in enumerate(source):
            found.append(numbered)
            characters += _characters(numbered[1])
            if len(found) >= limit or characters >= _MOST_CHARACTERS or clock() - began >= _LONGEST_SECONDS:
                yield found
                limit = min(size, 2 * limit)
                found = []
                characters = 0
                began = clock()
    except Exception:
        if found:
            yield found
        raise
    if found:
        yield found


def _characters(document: Document) -> int:
    if isinstance(document, SplitDocument):
        return sum(len(node.text) for node in document.nodes)
    return len(document.text or "")
