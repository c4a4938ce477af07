"""The chain: runs a pipeline's transformations over a batch, through the cache.

Steps over documents are asked for per document, so one edited document is one document's work. Embeddings are asked
for per node text, so an edited paragraph is that paragraph's work. A bad document costs itself alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from structlog.contextvars import bind_contextvars, unbind_contextvars

from orchestrator.contracts.errors import ConfigurationError, TokenBudgetExceeded, TransientError
from orchestrator.contracts.hashing import digest
from orchestrator.contracts.logs import get_logger
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.packed_nodes import unpack_handed
from orchestrator.contracts.payload import BatchDocument
from orchestrator.contracts.spec import PipelineSpec
from orchestrator.ledger.failures import Failure
from orchestrator.ledger.payments import Cost, Payment
from workers.caches.ingestion_cache import IngestionCache
from workers.caches.single_flight import in_single_flight
from workers.embedders import Embedder, get_embedder
from workers.llms.remembered import remembering
from workers.metrics.measured import timed
from workers.metrics.names import STAGE_SECONDS
from workers.tokens.spending import Spending, about_to_spend, collecting, spending_for, spent
from workers.tokens.tokenizer import get_tokenizer
from workers.tokens.usage import TokenUsage
from workers.transformations.contract import Transformation, build_transformation
from workers.transformations.embed import Embed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BatchBill", "BatchResult", "Chain", "DocumentResult"]

_log = get_logger(__name__)
_LOCAL_TEXTS = 500  # whose vectors go to the cache together: time is lost with a process that dies, and no money


@dataclass(slots=True)
class BatchBill:
    """What one run of a batch cost, also one that failed: tokens that were paid for, and look-ups in the cache."""

    spending: Spending = field(default_factory=Spending)
    cache_hits: int = 0
    cache_misses: int = 0

    @property
    def cost(self) -> Cost:
        """The same, as the ledger takes it."""
        paid = [
            Payment(*source, usage.embedding, usage.prompt, usage.completion, usage.cached)
            for source, usage in self.spending.by_source.items()
        ]
        return Cost(paid, self.cache_hits, self.cache_misses)


@dataclass(slots=True)
class DocumentResult:
    """What became of one document: its nodes, or the failure that refused it."""

    document: BatchDocument
    nodes: list[Node] = field(default_factory=list)
    failure: Failure | None = None


@dataclass(slots=True)
class BatchResult:
    """What became of a batch. `model` and `dimension` say whose vectors the nodes carry."""

    documents: list[DocumentResult]
    model: str
    dimension: int

    @property
    def node_count(self) -> int:
        """Nodes of all its documents."""
        return sum(len(result.nodes) for result in self.documents)


class Chain:
    """A pipeline's transformations, built once a process and run over many batches.

    Raises:
        UnknownName, ConfigurationError: the spec asks for what is not registered here.
    """

    def __init__(self, spec: PipelineSpec, cache: IngestionCache) -> None:
        self.spec = spec
        self.cache = cache
        steps = [build_transformation(step) for step in spec.transformations]
        self.embedder: Embedder | None = None  # without one the nodes are the product as they are
        last = steps[-1]
        if isinstance(last, Embed):
            self.embedder = get_embedder(last.embedder)
            self.texts_a_call = last.batch_size
            steps.pop()
        self.steps = steps
        # What a cached result depends on: the fingerprints up to and including each step, and the servers they ask.
        done = [
            digest(by.fingerprint, step.asked_server) if step.asked_server else by.fingerprint
            for by, step in zip(spec.transformations, steps, strict=False)
        ]
        self.prefixes = [digest(*done[: index + 1]) for index in range(len(steps))]

    def run(self, documents: Sequence[BatchDocument], bill: BatchBill) -> BatchResult:
        """Transform a batch; `bill` grows as things are paid for, and stands even if this raises.

        Raises:
            TransientError: a service did not answer; the batch is worth trying again.
            ConfigurationError: a provider refuses the pipeline as it is, or a step returns no nodes: no batch of
                the job would fare better.
            TokenBudgetExceeded: what is to be done costs more than the budget has left.
            Exception: the batch as a whole cannot be done; halve it.
        """
        results = [DocumentResult(document) for document in documents]
        with collecting(bill.spending), remembering(self.cache):
            with timed(STAGE_SECONDS, "transform"):
                self._transform(results, bill)
            nodes = [node for result in results for node in result.nodes]
            _count_tokens(nodes)
            if self.embedder is None:
                return BatchResult(results, "", 0)
            with timed(STAGE_SECONDS, "embed"):
                self._embed(self.embedder, nodes, bill)
            return BatchResult(results, self.embedder.model, self.embedder.dimension)

    def _transform(self, results: Sequence[DocumentResult], bill: BatchBill) -> None:
        """Run the steps over documents, each document from its latest cached step on."""
        uses_cache = not self.spec.disable_cache
        cached = [index for index, step in enumerate(self.steps) if step.cacheable and uses_cache]
        keys = {
            (result.document.id, index): self.cache.step_key(self.prefixes[index], result.document.content_hash)
            for result in results
            for index in cached
        }
        known = self.cache.get_many(list(keys.values()))
        made: dict[str, list[Node]] = {}
        try:
            for result in results:
                found = [known.get(keys[result.document.id, index]) for index in cached]
                first, nodes = _latest(cached, found)
                bill.cache_hits += sum(1 for index in cached if index < first)
                bind_contextvars(document=result.document.id)
                for index, after in self._steps_from(first, nodes, result, cached):
                    bill.cache_misses += 1
                    made[keys[result.document.id, index]] = after
        finally:
            unbind_contextvars("document")
        self.cache.put_many(made)

    def _steps_from(
        self, first: int, nodes: list[Node] | None, result: DocumentResult, cached: Sequence[int]
    ) -> Iterator[tuple[int, list[Node]]]:
        """Run the steps of one document from `first` on; fills in the result, yields (step, its nodes) to be cached."""
        # Copies: documents with equal content share what was found, and the next step may change it.
        result.nodes = _as_it_came(result.document) if nodes is None else _copies(nodes)
        for index, step in enumerate(self.steps[first:], start=first):
            try:
                with spending_for(step.name):
                    result.nodes = _checked(step, step(result.nodes))
            except (TransientError, ConfigurationError, TokenBudgetExceeded, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001 - a transformation is anybody's code; its document alone fails
                stage = "parse" if step.name == "parse" else "transform"
                result.failure = Failure.of(result.document.id, error, stage=stage, transformation=step.name)
                result.nodes = []
                _log.info("document failed", stage=stage, transformation=step.name, error=error)
                return
            if index in cached:
                # The next step may change the nodes it is handed, and this step's result is still to be cached.
                is_last = index == len(self.steps) - 1
                yield index, result.nodes if is_last else _copies(result.nodes)

    def _embed(self, embedder: Embedder, nodes: Sequence[Node], bill: BatchBill) -> None:
        """Give every node its vector, paying only for texts that nobody has embedded yet."""
        model, server = embedder.model, embedder.server
        keys = [self.cache.embedding_key(model, node.text, server) for node in nodes]
        unique = dict(zip(keys, nodes, strict=True))
        vectors = self.cache.embeddings(list(unique), embedder.dimension)
        missing = [key for key in unique if key not in vectors]
        bill.cache_hits += len(vectors)
        if not self.spec.disable_cache:  # else nobody was asked
            bill.cache_misses += len(missing)

        size = self.texts_a_call

        def work_out(part: Sequence[str]) -> dict[str, NDArray[np.float32]]:
            fresh: dict[str, NDArray[np.float32]] = {}
            try:
                for start in range(0, len(part), size):
                    asked = part[start : start + size]
                    fresh |= zip(asked, self._vectors(embedder, [unique[key] for key in asked]), strict=True)
            finally:
                self.cache.put_embeddings(fresh)  # what is paid for is kept, whatever happens next
            return fresh

        if embedder.asks_a_service and not self.spec.disable_cache:
            vectors |= in_single_flight(self.cache, missing, embedder.dimension, work_out, size=size)
        else:
            step = size if embedder.asks_a_service else max(size, _LOCAL_TEXTS)
            for start in range(0, len(missing), step):
                vectors |= work_out(missing[start : start + step])
        for key, node in zip(keys, nodes, strict=True):
            node.embedding = vectors[key]

    def _vectors(self, embedder: Embedder, nodes: Sequence[Node]) -> NDArray[np.float32]:
        """Ask the embedder, if the budget has the tokens; a row a node."""
        counted = sum(node.token_count for node in nodes)
        with spending_for(Embed.name), collecting() as spending:
            about_to_spend(lambda: counted)
            rows = embedder.embed([node.text for node in nodes])
            if not spending.total.embedding:  # no provider has billed them: our own count stands
                spent(embedder.model, TokenUsage(embedding=counted, estimated=True))
        return rows


def _as_it_came(document: BatchDocument) -> list[Node]:
    """A document as it enters the chain: one node that is the whole of it, or those it was handed in as."""
    if document.is_split:
        return unpack_handed(document.content)
    metadata = dict(document.metadata)
    if document.is_text:
        return [Node(text=document.content.decode("utf-8", "surrogatepass"), metadata=metadata)]
    return [Node(text="", content=document.content, metadata=metadata)]


def _latest(steps: Sequence[int], found: Sequence[list[Node] | None]) -> tuple[int, list[Node] | None]:
    """(the step to begin with, the nodes to begin with), by what is known after each of the given steps."""
    for step, nodes in zip(reversed(steps), reversed(found), strict=True):
        if nodes is not None:
            return step + 1, nodes
    return 0, None


def _copies(nodes: Sequence[Node]) -> list[Node]:
    return [replace(node, metadata=dict(node.metadata)) for node in nodes]


def _checked(step: Transformation, nodes: object) -> list[Node]:
    """What a step returned, if it is a list of nodes.

    Raises:
        ConfigurationError: it is not. The step's code is to blame, not the document: to refuse a document a step
            raises, and where it has nothing to give it returns an empty list.
    """
    if isinstance(nodes, list) and all(isinstance(node, Node) for node in nodes):
        return nodes
    what = "" if nodes is None else f"{type(nodes).__name__} "
    raise ConfigurationError(
        f"transformation {step.name!r} returned {what}{nodes!r:.80}; allowed is a list of Nodes, [] where a document "
        "has none: mend its __call__, restart the workers and ingest again"
    )


def _count_tokens(nodes: Sequence[Node]) -> None:
    """Count what no splitter has counted."""
    uncounted = [node for node in nodes if not node.token_count]
    for node, count in zip(uncounted, get_tokenizer().count_many([node.text for node in uncounted]), strict=True):
        node.token_count = count
