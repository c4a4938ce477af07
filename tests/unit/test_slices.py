"""Slices of a source: all documents in order, workers begin early, and a source that breaks off loses nothing."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts.documents import Document, SplitDocument
from orchestrator.contracts.nodes import Node
from orchestrator.slices import slices


def _documents(count: int) -> list[Document]:
    return [Document(id=str(index), text="x") for index in range(count)]


@given(st.integers(0, 300), st.integers(1, 40), st.lists(st.floats(0, 0.3), min_size=1))
def test_every_document_is_in_one_slice(count: int, size: int, pauses: list[float]) -> None:
    """Slices together are the source, numbered from 0; none is empty and none larger than asked, however slow it is."""
    clock = _Clock(pauses)
    documents = _documents(count)
    found = list(slices(documents, size, clock))
    assert [numbered for slice_ in found for numbered in slice_] == list(enumerate(documents))
    assert all(1 <= len(slice_) <= size for slice_ in found)


def test_first_slices_are_small() -> None:
    """Slices double from an eighth of their size on: the first batch does not wait for a full slice."""
    sizes = [len(slice_) for slice_ in slices(_documents(3000), 1000, lambda: 0.0)]
    assert sizes == [125, 250, 500, 1000, 1000, 125]


def test_slow_source_does_not_wait_for_a_full_slice() -> None:
    """A source that gives a document every 0.4 seconds has three of them taken at a time, not a thousand."""
    now = 0.0

    def crawl() -> Iterator[Document]:
        nonlocal now
        for document in _documents(7):
            now += 0.4
            yield document

    assert [len(slice_) for slice_ in slices(crawl(), 1000, lambda: now)] == [3, 3, 1]


def test_large_texts_make_small_slices() -> None:
    """A slice ends with the document that brings its texts to 4 MB, split by the caller or not: memory is bounded."""
    whole = [Document(id=str(index), text="x" * 3_000_000) for index in range(5)]
    assert [len(slice_) for slice_ in slices(whole, 1000, lambda: 0.0)] == [2, 2, 1]
    nodes = tuple(Node(text="x" * 750_000) for _ in range(4))
    split = [SplitDocument(id=str(index), nodes=nodes) for index in range(5)]
    assert [len(slice_) for slice_ in slices(split, 1000, lambda: 0.0)] == [2, 2, 1]


@pytest.mark.parametrize("given", [0, 3, 4, 5])
def test_source_that_breaks_off_gives_what_it_gave(given: int) -> None:
    """The documents before the error come out, then the error."""

    def broken() -> Iterator[Document]:
        yield from _documents(given)
        raise OSError("the share is gone")

    found: list[int] = []
    with pytest.raises(OSError, match="the share is gone"):
        for slice_ in slices(broken(), 32, lambda: 0.0):
            found.extend(place for place, _ in slice_)
    assert found == list(range(given))


class _Clock:
    """A clock that moves by given steps, again and again."""

    def __init__(self, steps: list[float]) -> None:
        self._steps = steps
        self._looks = 0
        self._now = 0.0

    def __call__(self) -> float:
        self._now += self._steps[self._looks % len(self._steps)]
        self._looks += 1
        return self._now
