"""What one worker process holds on to: connections, the cache, and the chains it has built."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from orchestrator.contracts.addresses import redis_client_url
from orchestrator.contracts.errors import CollectionMismatch
from orchestrator.contracts.failpoints import failpoint
from orchestrator.contracts.queues import send_transforms
from orchestrator.contracts.registered import load_modules
from orchestrator.contracts.spec import PipelineSpec
from orchestrator.ledger import jobs, window
from orchestrator.ledger.engine import begin, create_ledger_engine
from orchestrator.ledger.jobs import JobRow
from orchestrator.settings import Settings
from workers.aggregate import Aggregator
from workers.caches import CacheBackend, IngestionCache, NoCache, open_cache
from workers.chain import Chain
from workers.heartbeat import Heartbeat
from workers.tokens.callbacks import use_callback_handlers
from workers.tokens.spending import spending_for
from workers.transformations.embed import Embed
from workers.vector_stores import Collection, VectorStore, open_vector_store

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["WorkerContext"]

_REMEMBERED_JOBS = 64


class WorkerContext:
    """Made once a process, after the fork; everything in it is opened at first use.

    Raises:
        ConfigurationError: a module of DOCMILL_MODULES cannot be imported.
        UnknownName: nobody registered a callback handler of the settings.
    """

    def __init__(self, settings: Settings, app: Any) -> None:
        self.settings = settings
        self.app = app
        # Names this process in leases; the random part keeps a reused process id from inheriting one.
        self.owner = f"{socket.gethostname()[:60]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.job = lru_cache(_REMEMBERED_JOBS)(self._job)
        self.chain = lru_cache(_REMEMBERED_JOBS)(self._chain)
        self.store = lru_cache(_REMEMBERED_JOBS)(self._store)
        load_modules(settings.modules)
        use_callback_handlers(settings.callback_handlers)

    @cached_property
    def engine(self) -> Engine:
        """The ledger's engine."""
        return create_ledger_engine(self.settings.ledger_url, connect_timeout=self.settings.connect_timeout)

    @cached_property
    def heartbeat(self) -> Heartbeat:
        """Beats for this process's leases."""
        return Heartbeat(self.engine, self.owner, every=self.settings.heartbeat)

    @cached_property
    def aggregator(self) -> Aggregator:
        """The results of running jobs."""
        from redis import Redis

        redis = Redis.from_url(
            redis_client_url(self.settings.results_redis_url),
            socket_connect_timeout=self.settings.connect_timeout,
            socket_timeout=15,
            health_check_interval=25,
        )
        return Aggregator(
            redis, segment_batches=self.settings.segment_batches, segment_bytes=self.settings.segment_bytes
        )

    @cached_property
    def cache(self) -> CacheBackend:
        """The backend of the ingestion cache, shared by all workers unless it is memory."""
        settings = self.settings
        return open_cache(settings.cache_address, ttl_seconds=settings.cache_ttl, max_bytes=settings.cache_bytes)

    def cache_of(self, spec: PipelineSpec) -> IngestionCache:
        """The ingestion cache of a job: its collection, or none."""
        return IngestionCache(spec.cache_collection, NoCache() if spec.disable_cache else self.cache)

    def _job(self, job_id: str) -> JobRow:
        """The job as it was when first seen: number, collection and spec never change, state does."""
        with begin(self.engine) as connection:
            return jobs.get(connection, job_id)

    def _chain(self, job_id: str) -> Chain:
        """The job's chain, after a look at whether its collection takes such vectors: before they are paid for."""
        job = self.job(job_id)
        chain = Chain(job.spec, self.cache_of(job.spec))
        store = self.store_of(job.spec)
        if store is None or chain.embedder is None:
            return chain
        with spending_for(Embed.name):  # a service may have to be asked
            made = Collection(job.collection, chain.embedder.model, chain.embedder.dimension)
        held = store.describe(job.collection)
        if held not in (None, made):
            raise CollectionMismatch(job.collection, str(held), str(made))
        return chain

    def _store(self, name: str) -> VectorStore:
        return open_vector_store(name, self.engine, self.settings.sqlite_vectors_file)

    def store_of(self, spec: PipelineSpec) -> VectorStore | None:
        """The vector store of a pipeline; None where the nodes are the product."""
        return None if spec.vector_store is None else self.store(spec.vector_store)

    def fill_window(self, job_id: str) -> None:
        """Publish what fits into the job's window now."""
        with begin(self.engine) as connection:
            published = window.publish_next(connection, job_id, self.settings.window)
        if published:
            failpoint("window.published")
        self.publish(job_id, published)

    def publish(self, job_id: str, published: Sequence[window.Published]) -> None:
        """Send the messages of batches that the ledger has marked as waiting."""
        if published:
            send_transforms(self.app, job_id, published, self.job(job_id).priority)
