"""IngestionPipeline: the user's face. It plans nothing by itself: a spec goes to the ledger, documents to batches."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from itertools import chain
from typing import TYPE_CHECKING

from pydantic import ValidationError

from orchestrator.contracts.documents import Document
from orchestrator.contracts.errors import ConfigurationError, EmptySource
from orchestrator.contracts.llama_index import Component
from orchestrator.contracts.messages import Priority
from orchestrator.contracts.report import Report
from orchestrator.contracts.spec import (
    DEFAULT_CACHE_COLLECTION,
    DocstoreStrategy,
    PipelineSpec,
    SpecSource,
    TransformationSpec,
)
from orchestrator.foreign import ForeignDocument, as_documents, as_spec, as_vector_store
from orchestrator.job import Job
from orchestrator.settings import Settings, load_settings

if TYPE_CHECKING:
    from orchestrator.connections import Connections
    from orchestrator.ledger.reports import Progress

__all__ = ["IngestionPipeline"]

Transformations = Sequence[SpecSource | TransformationSpec | Component]


class IngestionPipeline:
    """Documents in; split, embedded, deduplicated nodes out, made by workers wherever they run.

    Args:
        name: says what the pipeline is for; names the collection too, unless `collection` does.
        transformations: the steps, in order, LlamaIndex's components among them. Parsing comes first by itself.
            Default: split and embed, by the settings.
        vector_store: where the nodes go: `pgvector` (the ledger's Postgres), `sqlite`, or a vector store of LlamaIndex;
            default: by the settings.
        docstore_strategy: what happens to documents the ledger already knows; see `DocstoreStrategy`.
        collection: nodes that are searched together: a-z, 0-9, - and _.
        disable_cache: neither look into the ingestion cache nor fill it: all work is done, and paid for, again.
        token_budget: tokens that one job may spend on prompts, completions and embeddings together; None: no limit.
        settings: addresses and bounds; default: from the environment.

    Raises:
        ConfigurationError: a name or a value is not allowed.
    """

    def __init__(
        self,
        name: str,
        transformations: Transformations | None = None,
        *,
        vector_store: str | Component | None = None,
        docstore_strategy: str = "upserts",
        collection: str | None = None,
        disable_cache: bool = False,
        token_budget: int | None = None,
        settings: Settings | None = None,
        connections: Connections | None = None,
    ) -> None:
        self.settings = settings or (connections.settings if connections else load_settings())
        self._connections = connections
        try:
            self.spec = PipelineSpec(
                name=name,
                collection=collection or _collection_name(name),
                transformations=tuple(_specs(transformations, self.settings)),
                vector_store=as_vector_store(
                    vector_store or self.settings.vector_store, self.settings.llama_index_classes
                ),
                strategy=_strategy(docstore_strategy),
                disable_cache=disable_cache,
                token_budget=token_budget,
            )
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"pipeline {name!r}, {place}={first['input']!r}: {first['msg']}") from error

    @property
    def connections(self) -> Connections:
        """The services this pipeline talks to; the embedded ones are started when no address is set."""
        if self._connections is None:
            from orchestrator.runtime import process_runtime

            self._connections = process_runtime(self.settings).connections
        return self._connections

    def enqueue(
        self,
        documents: Iterable[Document | ForeignDocument],
        *,
        scope: str = "",
        allow_mass_delete: bool = False,
        priority: str = "normal",
        cache_collection: str = DEFAULT_CACHE_COLLECTION,
        token_budget: int | None = None,
    ) -> Job:
        """Hand documents to the workers; returns once the ledger has them all.

        Args:
            documents: streamed, never all in memory; those of LlamaIndex and LangChain as well.
            scope: with `upserts_and_delete`, only documents whose id begins so may vanish.
            allow_mass_delete: let more than the set share of the collection vanish, even all of it.
            priority: high, normal or low: whose batches workers take first.
            cache_collection: entries of the ingestion cache that are found, and cleared, together.
            token_budget: tokens that this job may spend; default: the pipeline's. A job that has spent them fails.

        Raises:
            ConfigurationError: there is no such priority, or the cache collection or the budget is not allowed.
            EmptySource: there was no document; nothing has been changed.
            ServiceUnreachable: the database or the broker does not answer; nothing has been enqueued.
            Exception: whatever the source raises; the job then ends as failed, with what was read before.
        """
        from orchestrator.dispatch import dispatch
        from orchestrator.ledger import jobs
        from orchestrator.ledger.engine import begin

        rank = _priority(priority)
        budget = self.spec.token_budget if token_budget is None else token_budget
        spec = _with(self.spec, cache_collection=cache_collection, token_budget=budget)
        source = as_documents(documents)
        if not allow_mass_delete:
            source = _not_empty(source)
        connections = self.connections
        connections.check()
        with begin(connections.engine) as connection:
            job = jobs.create(connection, secrets.token_hex(6), spec, scope=scope, priority=rank)
        dispatch(connections, job, source, allow_mass_delete=allow_mass_delete)
        return Job(connections, job.id)

    def run(
        self,
        documents: Iterable[Document | ForeignDocument],
        *,
        timeout: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        scope: str = "",
        allow_mass_delete: bool = False,
        priority: str = "normal",
        cache_collection: str = DEFAULT_CACHE_COLLECTION,
        token_budget: int | None = None,
    ) -> Report:
        """`enqueue`, then wait for the end. Raises what these raise."""
        job = self.enqueue(
            documents,
            scope=scope,
            allow_mass_delete=allow_mass_delete,
            priority=priority,
            cache_collection=cache_collection,
            token_budget=token_budget,
        )
        return job.wait(timeout, on_progress)

    async def arun(self, documents: Iterable[Document | ForeignDocument], *, timeout: float | None = None) -> Report:
        """`run` without blocking the event loop. Cancelling it stops the waiting; the job goes on."""
        return await asyncio.to_thread(self.run, documents, timeout=timeout)


def _collection_name(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:63]


def _strategy(name: str) -> DocstoreStrategy:
    try:
        return DocstoreStrategy(name)
    except ValueError:
        allowed = ", ".join(DocstoreStrategy)
        raise ConfigurationError(f"docstore_strategy {name!r} is unknown; allowed are {allowed}") from None


def _with(spec: PipelineSpec, **of_job: object) -> PipelineSpec:
    """The spec with what one job has of its own."""
    try:
        return PipelineSpec.model_validate({**spec.model_dump(), **of_job})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"{first['loc'][0]} {first['input']!r}: {first['msg']}") from error


def _priority(name: str) -> Priority:
    try:
        return Priority(name)
    except ValueError:
        raise ConfigurationError(f"priority {name!r} is unknown; allowed are {', '.join(Priority)}") from None


def _specs(transformations: Transformations | None, settings: Settings) -> Iterator[TransformationSpec]:
    """The steps as plain data, parsing first."""
    embed = _transformation("embed")
    if transformations is None:
        splitter = _transformation("sentence_splitter")
        transformations = [
            splitter(chunk_size=settings.chunk_size, chunk_overlap=settings.chunk_overlap),
            embed(embedder=settings.embedder),
        ]
    specs = [as_spec(step, settings.llama_index_classes, embed) for step in transformations]
    if not specs or specs[0].name != "parse":
        yield _transformation("parse")().spec()
    yield from specs


def _transformation(name: str) -> Callable[..., SpecSource]:
    """A transformation's class by its entry point: this room imports nothing of the other."""
    for entry in entry_points(group="docmill.transformations", name=name):
        loaded: Callable[..., SpecSource] = entry.load()
        return loaded
    raise ConfigurationError(f"transformation {name!r} is not installed: install docmill again")


def _not_empty(source: Iterator[Document]) -> Iterator[Document]:
    try:
        first = next(source)
    except StopIteration:
        raise EmptySource("the source holds no document: nothing was ingested, and nothing deleted") from None
    return chain([first], source)
