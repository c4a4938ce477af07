"""The chain: what a step may return, and what a budget refuses. The rest is shown where caches and services are."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from orchestrator.contracts.errors import ConfigurationError, DocumentError, TokenBudgetExceeded
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.packed_nodes import pack_handed
from orchestrator.contracts.payload import BatchDocument
from orchestrator.contracts.spec import PipelineSpec
from workers.caches import IngestionCache
from workers.caches.contract import DEFAULT_CACHE_COLLECTION
from workers.caches.memory import MemoryCache
from workers.chain import BatchBill, BatchResult, Chain
from workers.tokens.spending import Spending
from workers.transformations import Embed, SentenceSplitter, Transformation, transformation


@transformation("test_returning", version=1)
class Returning(Transformation):
    """Returns, or raises, what the test says."""

    what: ClassVar[Any] = None

    def __call__(self, nodes: list[Node]) -> list[Node]:
        if isinstance(self.what, Exception):
            raise self.what
        returned: list[Node] = self.what
        return returned


def _run(what: object, monkeypatch: pytest.MonkeyPatch) -> BatchResult:
    monkeypatch.setattr(Returning, "what", what)
    spec = PipelineSpec(name="p", collection="p", transformations=(Returning().spec(),), vector_store=None)
    document = BatchDocument("a", 0, True, True, b"Some words.", {}, "content", "body", None)
    return Chain(spec, IngestionCache()).run([document], BatchBill())


def test_a_budget_smaller_than_one_call_is_refused_with_the_number() -> None:
    """A budget that one call of the embedder alone exceeds pays for nothing, and the error names the call's tokens."""
    steps = SentenceSplitter(chunk_size=16, chunk_overlap=0), Embed("hashed", batch_size=8)
    spec = PipelineSpec(name="p", collection="p", transformations=tuple(step.spec() for step in steps))
    text = b" ".join(b"Sentence number %d tells of something." % number for number in range(40))
    document = BatchDocument("a", 0, True, True, text, {}, "content", "body", None)
    bill = BatchBill(Spending(budget=20))
    with pytest.raises(
        TokenBudgetExceeded, match="budget of 20 tokens is too small for one call, which takes"
    ) as caught:
        Chain(spec, IngestionCache()).run([document], bill)
    assert f"takes {caught.value.planned:,}; raise token_budget, or let a call take less (batch_size" in str(
        caught.value
    )
    assert 20 < caught.value.planned <= 8 * 16
    assert bill.spending.total.total == 0


def _numbered_sentences() -> tuple[PipelineSpec, BatchDocument]:
    """40 nodes of seven or eight tokens, embedded here, eight a call."""
    steps = SentenceSplitter(chunk_size=12, chunk_overlap=0), Embed("hashed", batch_size=8)
    spec = PipelineSpec(name="p", collection="p", transformations=tuple(step.spec() for step in steps))
    text = b"\n\n".join(b"Sentence number %d tells of something." % number for number in range(40))
    return spec, BatchDocument("a", 0, True, True, text, {}, "content", "body", None)


def test_what_was_embedded_before_the_budget_ended_is_kept() -> None:
    """A budget that ends between two calls of an embedder leaves the vectors of the calls before in the cache."""
    spec, document = _numbered_sentences()
    cache = IngestionCache()
    bill = BatchBill(Spending(budget=200))
    with pytest.raises(TokenBudgetExceeded):
        Chain(spec, cache).run([document], bill)
    again = BatchBill()
    (result,) = Chain(spec, cache).run([document], again).documents
    assert (len(result.nodes), again.cache_hits) == (40, 24)
    assert sum(node.token_count for node in result.nodes[:24]) == bill.spending.total.total <= 200


def test_vectors_made_here_go_to_the_cache_together() -> None:
    """Five calls of an embedder that asks no service are one write to the cache."""
    written: list[int] = []

    class CountedCache(MemoryCache):
        def put_many(self, values: Mapping[str, bytes], collection: str = DEFAULT_CACHE_COLLECTION) -> None:
            written.append(len(values))
            super().put_many(values, collection)

    spec, document = _numbered_sentences()
    Chain(spec, IngestionCache(cache=CountedCache())).run([document], BatchBill())
    assert [count for count in written if count] == [40]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (None, "returned None; "),
        ("text", "returned str 'text'; "),
        ((Node(text="a"),), "returned tuple (Node("),
        ([Node(text="a"), "b"], "returned list [Node("),
    ],
    ids=["None", "str", "tuple", "list"],
)
def test_what_is_no_list_of_nodes_is_the_steps_fault(what: object, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that returns no list of nodes ends the job: the error has its name, the value and what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        _run(what, monkeypatch)
    assert f"transformation 'test_returning' {said}" in str(caught.value)
    assert "allowed is a list of Nodes, [] where a document has none" in str(caught.value)


def test_a_document_without_nodes_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step may return an empty list: the document is ingested, and has no nodes."""
    (result,) = _run([], monkeypatch).documents
    assert (result.nodes, result.failure) == ([], None)


def test_what_a_step_raises_is_its_documents_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that raises for a document costs that document, whatever it raises that is neither passing nor ours."""
    for error in (DocumentError("transform", "no"), RuntimeError("no")):
        (result,) = _run(error, monkeypatch).documents
        assert result.failure is not None
        assert (result.failure.transformation, result.failure.message) == ("test_returning", "no")


def test_nodes_without_a_count_are_counted_also_where_the_vector_is_known() -> None:
    """What no splitter has counted is counted once the vector comes from the cache, or from an equal node, too."""
    spec = PipelineSpec(name="p", collection="p", transformations=(Embed("hashed").spec(),))
    split = pack_handed([Node(text="The same words."), Node(text="The same words.")])
    document = BatchDocument("a", 0, True, True, split, {}, "content", "body", None, is_split=True)
    cache = IngestionCache()
    for _ in range(2):
        (result,) = Chain(spec, cache).run([document], BatchBill()).documents
        assert [node.token_count for node in result.nodes] == [4, 4]
