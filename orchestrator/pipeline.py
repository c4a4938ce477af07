"""IngestionPipeline: the user's face. It plans nothing by itself: a spec goes to the ledger, documents to batches."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypedDict, Unpack

from pydantic import ValidationError

from orchestrator.contracts.errors import ConfigurationError, EmptySource
from orchestrator.contracts.messages import Priority
from orchestrator.contracts.report import Report
from orchestrator.contracts.spec import (
    DEFAULT_CACHE_COLLECTION,
    DocstoreStrategy,
    PipelineSpec,
    SpecSource,
    TransformationSpec,
)
from orchestrator.foreign import ForeignDocument, ForeignNode, as_vector_store
from orchestrator.job import Job
from orchestrator.process_user import process_user
from orchestrator.progress import OnProgress
from orchestrator.progress_display import shown_progress
from orchestrator.settings import Settings, load_settings
from orchestrator.sources import Reader, check_documents, check_reader, split_documents, stream_documents
from orchestrator.steps import steps_as_data
from orchestrator.stored_pipeline import read_spec, write_spec

if TYPE_CHECKING:
    from orchestrator.connections import Connections
    from orchestrator.contracts.documents import Document
    from orchestrator.contracts.llama_index import Component
    from orchestrator.contracts.nodes import Node

__all__ = ["BY_SETTINGS", "IngestionPipeline", "JobOptions"]

BY_SETTINGS: Final = "by settings"  # the vector store of a pipeline that says nothing of one
_PERSIST_DIR = "./pipeline_storage"
_LOOK_EVERY = 1.0  # seconds between two callbacks; and a cancelled `arun` waits for its thread no longer


class JobOptions(TypedDict, total=False):
    """What may be said of one job; `IngestionPipeline.enqueue` explains each."""

    nodes: Iterable[Node | ForeignNode] | None
    num_workers: int | None
    token_budget: int | None
    cache_collection: str | None
    disable_cache: bool | None
    scope: str
    allow_mass_delete: bool
    priority: str


class IngestionPipeline:
    """Documents in; split, embedded, deduplicated nodes out, made by workers wherever they run.

    Args:
        name: says what the pipeline is for; names the collection too, unless `collection` does.
        transformations: the steps, in order, LlamaIndex's components among them. Parsing comes first by itself.
            Default: by the settings, which split and embed unless they say otherwise.
        documents: ingested by every job, before what the job itself is given. An iterator gives them once.
        readers: the same, of objects that read: iterables of Documents, or with `lazy_load_data`, `load_data`, `read`.
        vector_store: where the nodes go: `pgvector` (the ledger's Postgres), `sqlite`, or a vector store of LlamaIndex.
            None: nowhere, the nodes are the product, read by `job.nodes()`. Default: by the settings, and None where
            nothing is embedded.
        docstore_strategy: what happens to documents the ledger already knows; see `DocstoreStrategy`.
        collection: nodes that are searched together: a-z, 0-9, - and _.
        cache_collection: entries of the ingestion cache that are found, and cleared, together.
        disable_cache: neither look into the ingestion cache nor fill it: all work is done, and paid for, again.
        token_budget: tokens that one job may spend on prompts, completions and embeddings together; None: no limit.
        settings: addresses and bounds; default: from the environment and the settings file.

    Raises:
        ConfigurationError: a name or a value is not allowed, a reader is none.
    """

    def __init__(
        self,
        name: str,
        transformations: Sequence[SpecSource | TransformationSpec | Component] | None = None,
        *,
        documents: Iterable[Document | ForeignDocument] | None = None,
        readers: Iterable[Reader] | None = None,
        vector_store: str | Component | None = BY_SETTINGS,
        docstore_strategy: str = DocstoreStrategy.UPSERTS,
        collection: str | None = None,
        cache_collection: str = DEFAULT_CACHE_COLLECTION,
        disable_cache: bool = False,
        token_budget: int | None = None,
        settings: Settings | None = None,
        connections: Connections | None = None,
    ) -> None:
        self.settings = settings or (connections.settings if connections else load_settings())
        self.documents = documents
        self.readers = list(readers or ())
        check_documents(documents)
        for reader in self.readers:
            check_reader(reader)
        self._connections = connections
        steps = tuple(steps_as_data(transformations, self.settings))
        if vector_store == BY_SETTINGS:
            vector_store = self.settings.vector_store if steps[-1].name == "embed" else None
        self.spec = _checked_spec(
            name=name,
            collection=_collection_name(name) if collection is None else collection,
            transformations=steps,
            vector_store=vector_store and as_vector_store(vector_store, self.settings.llama_index_classes),
            strategy=_strategy(docstore_strategy),
            cache_collection=cache_collection,
            disable_cache=disable_cache,
            token_budget=token_budget,
        )

    @property
    def connections(self) -> Connections:
        """The services this pipeline talks to; the embedded ones are started when no address is set."""
        return self._connect()

    def enqueue(
        self,
        documents: Iterable[Document | ForeignDocument] | None = None,
        *,
        nodes: Iterable[Node | ForeignNode] | None = None,
        num_workers: int | None = None,
        cache_collection: str | None = None,
        disable_cache: bool | None = None,
        token_budget: int | None = None,
        scope: str = "",
        allow_mass_delete: bool = False,
        priority: str = Priority.NORMAL,
        on_progress: OnProgress | None = None,
    ) -> Job:
        """Hand documents to the workers; returns once the ledger has them all.

        The pipeline's own documents come first, then its readers', then those of the call. Of one id the last wins.

        Args:
            documents: streamed, never all in memory; those of LlamaIndex and LangChain as well.
            nodes: split already, each with the `document_id` of its parent, or LlamaIndex's, whose source names it.
                They are known by their parents, and go through the transformations as they are; a splitter leaves
                alone what is small enough.
            num_workers: worker processes to have on this machine, where the services are the embedded ones. Elsewhere
                workers are not this program's to start, and a warning says so.
            cache_collection, disable_cache, token_budget: for this job, in place of the pipeline's. A job that has
                spent its tokens fails.
            scope: with `upserts_and_delete`, only documents whose id begins so may vanish.
            allow_mass_delete: let more than the set share of the collection vanish, even all of it.
            priority: high, normal or low: whose batches workers take first.
            on_progress: called about once a second while the source is read.

        Raises:
            ConfigurationError: there is nothing to read from, or a value is not allowed. Nothing has been started.
            EmptySource: there was no document; nothing has been changed.
            ServiceUnreachable: the database or the broker does not answer; nothing has been enqueued.
            Exception: whatever the source raises; the job then ends as failed, with what was read before.
        """
        from orchestrator.dispatch import dispatch, enqueueing
        from orchestrator.ledger import jobs
        from orchestrator.ledger.engine import begin

        rank = _priority(priority)
        spec = self._spec_of_call(
            cache_collection=cache_collection, disable_cache=disable_cache, token_budget=token_budget
        )
        _check_scope(scope, spec.strategy)
        _check_workers(num_workers)
        source = _begun(self._source(documents, nodes), may_be_empty=allow_mass_delete)
        connections = self._connect(num_workers)
        connections.check()
        with enqueueing(connections) as found:
            with begin(connections.engine) as connection:
                row = jobs.create(
                    connection, secrets.token_hex(6), spec, scope=scope, priority=rank, started_by=process_user()
                )
            found.set({"docmill.job": row.id, "docmill.collection": row.collection})
            job = Job(connections, row.id)
            on_slice = _now_and_then(lambda: on_progress(job.progress)) if on_progress else lambda: None
            dispatch(connections, row, source, allow_mass_delete=allow_mass_delete, on_slice=on_slice)
        return job

    def run(
        self,
        documents: Iterable[Document | ForeignDocument] | None = None,
        *,
        show_progress: bool = False,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Report:
        """`enqueue`, then wait for the end; `options` are those of `enqueue`. Raises what these raise.

        Args:
            documents: as of `enqueue`.
            show_progress: on stderr: a bar in a terminal, elsewhere a line every few seconds.
            on_progress: called about once a second, and when something has changed.
            timeout: seconds to wait for the end, once all is enqueued.
        """
        with shown_progress(show_progress, on_progress) as show:
            return self.enqueue(documents, on_progress=show, **options).wait(timeout, show)

    async def arun(
        self,
        documents: Iterable[Document | ForeignDocument] | None = None,
        *,
        show_progress: bool = False,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Report:
        """`run` without blocking the event loop: the source is read, and callbacks are made, in another thread.

        Cancelling it stops the waiting; the job goes on.
        """
        with shown_progress(show_progress, on_progress) as show:
            job = await asyncio.to_thread(self.enqueue, documents, on_progress=show, **options)
            deadline = None if timeout is None else time.monotonic() + timeout
            while True:
                patience = _LOOK_EVERY if deadline is None else min(_LOOK_EVERY, deadline - time.monotonic())
                try:
                    return await asyncio.to_thread(job.wait, max(patience, 0.0), show)
                except TimeoutError:
                    if deadline is not None and time.monotonic() >= deadline:
                        raise

    def persist(self, persist_dir: str | Path = _PERSIST_DIR) -> Path:
        """Write what the pipeline is (its spec: no documents, no secrets) into a folder; returns the file.

        The file is written whole or not at all. Documents known and nodes cached need no file: the ledger and the
        ingestion cache are services.

        Raises:
            OSError: the folder cannot be written.
        """
        return write_spec(Path(persist_dir), self.spec)

    @classmethod
    def load(
        cls,
        persist_dir: str | Path = _PERSIST_DIR,
        *,
        settings: Settings | None = None,
        connections: Connections | None = None,
    ) -> Self:
        """A pipeline that does what the one did that `persist` wrote.

        Raises:
            ConfigurationError: the folder holds none, or a damaged one.
        """
        spec = read_spec(Path(persist_dir))
        return cls(
            spec.name,
            spec.transformations,
            vector_store=spec.vector_store,
            docstore_strategy=spec.strategy,
            collection=spec.collection,
            cache_collection=spec.cache_collection,
            disable_cache=spec.disable_cache,
            token_budget=spec.token_budget,
            settings=settings,
            connections=connections,
        )

    def _source(
        self, documents: Iterable[Document | ForeignDocument] | None, nodes: Iterable[Node | ForeignNode] | None
    ) -> Iterator[Document]:
        check_documents(documents)
        if self.documents is None and not self.readers and documents is None and nodes is None:
            raise ConfigurationError(
                f"pipeline {self.spec.name!r} has nothing to ingest: give documents or nodes to the call, or documents "
                "or readers to the pipeline"
            )
        split = None if nodes is None else split_documents(nodes)
        return stream_documents(self.documents, *self.readers, documents, split)

    def _spec_of_call(self, **given: object) -> PipelineSpec:
        changes = {name: value for name, value in given.items() if value is not None}
        return _checked_spec(**{**dict(self.spec), **changes}) if changes else self.spec

    def _connect(self, num_workers: int | None = None) -> Connections:
        if self._connections is None:
            from orchestrator.runtime import process_runtime

            runtime = process_runtime(self.settings, num_workers)
            if num_workers is None or runtime.set_workers(num_workers):
                return runtime.connections
            connections = runtime.connections
        else:
            connections = self._connections
        if num_workers is not None:
            warnings.warn(
                f"num_workers={num_workers} changes nothing: the workers of this deployment are started by `docmill "
                f"worker --concurrency {num_workers}`, on any machine",
                stacklevel=4,
            )
        return connections


def _checked_spec(**fields: object) -> PipelineSpec:
    try:
        return PipelineSpec.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"pipeline {fields['name']!r}, {place}={first['input']!r}: {reason}") from error


def _collection_name(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:63]


def _strategy(name: str) -> DocstoreStrategy:
    try:
        return DocstoreStrategy(name)
    except ValueError:
        allowed = ", ".join(DocstoreStrategy)
        raise ConfigurationError(f"docstore_strategy {name!r} is unknown; allowed are {allowed}") from None


def _priority(name: str) -> Priority:
    try:
        return Priority(name)
    except ValueError:
        raise ConfigurationError(f"priority {name!r} is unknown; allowed are {', '.join(Priority)}") from None


def _check_scope(scope: str, strategy: DocstoreStrategy) -> None:
    if scope and strategy is not DocstoreStrategy.UPSERTS_AND_DELETE:
        raise ConfigurationError(
            f"scope {scope!r} says what may vanish, but with docstore_strategy {strategy.value!r} nothing does; "
            "leave it out, or use 'upserts_and_delete'"
        )


def _check_workers(count: int | None) -> None:
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise ConfigurationError(f"num_workers must be a whole number from 1 on, or None, not {count!r}")


def _begun(source: Iterator[Document], *, may_be_empty: bool) -> Iterator[Document]:
    """The source with its first document read: what is wrong with it from the start is said before a job is made."""
    first = list(islice(source, 1))
    if not first and not may_be_empty:
        raise EmptySource("the source holds no document: nothing was ingested, and nothing deleted")
    return chain(first, source)


def _now_and_then(act: Callable[[], None]) -> Callable[[], None]:
    last = time.monotonic()

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last >= _LOOK_EVERY:
            last = time.monotonic()
            act()

    return tick
