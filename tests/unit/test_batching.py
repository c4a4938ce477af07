"""Batches by weight: nothing lost, nothing out of order, none too heavy."""

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.batching import BatchPacker, document_weight
from orchestrator.contracts.payload import BatchDocument, decode_payload
from orchestrator.ledger.batches import NewBatch

_SIZES = st.lists(st.integers(0, 5000), max_size=60)
_LIMITS = st.integers(1, 20_000)


def _document(index: int, size: int) -> BatchDocument:
    return BatchDocument(str(index), index, True, True, b"x" * size, {}, "c" * 40, "b" * 40, None)


def _packed(documents: Iterable[BatchDocument], limit: int) -> list[NewBatch]:
    packer = BatchPacker(limit)
    return [batch for document in documents for batch in packer.add(document)] + list(packer.flush())


@given(_SIZES, _LIMITS)
def test_no_document_is_lost_or_out_of_order(sizes: list[int], limit: int) -> None:
    """The batches together hold the documents as they came, each once."""
    documents = [_document(index, size) for index, size in enumerate(sizes)]
    batches = _packed(documents, limit)
    assert [document for batch in batches for document in decode_payload(batch.payload)] == documents
    assert [batch.documents for batch in batches] == [len(decode_payload(batch.payload)) for batch in batches]


@given(_SIZES, _LIMITS)
def test_no_batch_is_too_heavy(sizes: list[int], limit: int) -> None:
    """A batch of more than one document stays within the limit; what is heavier travels alone."""
    for batch in _packed((_document(index, size) for index, size in enumerate(sizes)), limit):
        documents = decode_payload(batch.payload)
        assert batch.weight == sum(map(document_weight, documents))
        assert batch.weight <= limit or len(documents) == 1


@given(_SIZES, _LIMITS)
def test_no_batch_is_lighter_than_it_must_be(sizes: list[int], limit: int) -> None:
    """A batch ends only where the next document would make it too heavy; the first batches may weigh an eighth."""
    batches = [
        decode_payload(batch.payload)
        for batch in _packed((_document(index, size) for index, size in enumerate(sizes)), limit)
    ]
    for number, (batch, following) in enumerate(pairwise(batches)):
        doublings = min(number // 8, 3)
        assert sum(map(document_weight, batch)) + document_weight(following[0]) > limit >> (3 - doublings)


def test_heavy_document_travels_alone() -> None:
    """A document above the limit shares its batch with none of its neighbours."""
    batches = _packed([_document(0, 10), _document(1, 9000), _document(2, 10)], limit=4000)
    assert [[document.id for document in decode_payload(batch.payload)] for batch in batches] == [["0"], ["1"], ["2"]]


def test_empty_documents_do_not_fill_a_batch_for_ever() -> None:
    """A document weighs something even if it has no content."""
    assert len(_packed((_document(index, 0) for index in range(2100)), limit=512 * 1024)) == 13


def test_nothing_makes_no_batch() -> None:
    """Without a document there is no batch, and a batch is given once."""
    packer = BatchPacker(1000)
    assert list(packer.flush()) == []
    assert list(packer.add(_document(0, 1))) == []
    assert len(list(packer.flush())) == 1
    assert list(packer.flush()) == []
