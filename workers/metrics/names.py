"""Every metric of docmill: its name, kind, labels, and what it means. Nothing is exported that is not in this list."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["LEDGER_METRICS", "METRICS", "WORKER_METRICS", "Metric"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as Prometheus knows it; of a histogram without `_bucket`, `_sum` and `_count`.
        unit: what one is one of.
        meaning: one sentence, which Prometheus shows as help.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    meaning: str


# Asked of the ledger and of the Redis servers; served by Flower.
UP = Metric(
    "docmill_up", "gauge", "0 or 1", ("service",), "Whether the ledger, the results' or the cache's Redis answers."
)
JOBS = Metric("docmill_jobs", "gauge", "jobs", ("state",), "Jobs that are not finished.")
JOBS_ENDED = Metric(
    "docmill_jobs_ended_total", "counter", "jobs", ("state",), "Jobs that are finished, by how they ended."
)
BATCHES = Metric("docmill_batches", "gauge", "batches", ("state",), "Batches of open jobs that are not done.")
BATCHES_ENDED = Metric(
    "docmill_batches_ended_total", "counter", "batches", ("state",), "Batches that are done, by how they ended."
)
OLDEST_WAITING = Metric(
    "docmill_oldest_waiting_batch_seconds",
    "gauge",
    "seconds",
    (),
    "How long the oldest batch has waited for a worker since it was published, or for its commit; 0 if none waits.",
)
DOCUMENTS = Metric(
    "docmill_documents_total", "counter", "documents", ("outcome",), "Documents of all jobs, by what became of them."
)
QUARANTINED = Metric(
    "docmill_quarantined_documents", "gauge", "failures", (), "Failures of documents that nobody has resolved yet."
)
NODES = Metric("docmill_nodes_total", "counter", "nodes", ("change",), "Nodes upserted and removed.")
TOKENS = Metric(
    "docmill_tokens_total",
    "counter",
    "tokens",
    ("model", "kind"),
    "Tokens paid for embeddings, prompts and completions, over all attempts.",
)
COST = Metric(
    "docmill_cost_total",
    "counter",
    "money",
    ("model",),
    "What the tokens cost by the prices in the settings, in their currency; models without a price are left out.",
)
CACHE_LOOKUPS = Metric(
    "docmill_cache_lookups_total", "counter", "look-ups", ("result",), "Look-ups in the ingestion cache: hit or miss."
)
REDIS_MEMORY = Metric("docmill_redis_memory_bytes", "gauge", "bytes", ("server",), "Memory that a Redis uses.")
REDIS_LIMIT = Metric(
    "docmill_redis_memory_limit_bytes", "gauge", "bytes", ("server",), "Memory that a Redis may use; 0: no limit."
)
REDIS_KEYS = Metric(
    "docmill_redis_keys", "gauge", "keys", ("server",), "Keys in the database of a Redis; of the cache: its entries."
)

# Counted by worker processes; served by the worker's main process.
STAGE_SECONDS = Metric(
    "docmill_stage_seconds",
    "histogram",
    "seconds",
    ("stage",),
    "Time of one batch in lease, transform, embed and store, and of one segment in fetch and commit.",
)
RETRIES = Metric(
    "docmill_batch_retries_total",
    "counter",
    "retries",
    ("reason",),
    "Batches put back because of a trouble that may pass, by class of the error.",
)
RECONCILED = Metric(
    "docmill_reconciler_actions_total",
    "counter",
    "things moved",
    ("action",),
    "What had stalled and was moved: abandoned and exhausted batches, lost messages, forgotten commits, clients, jobs.",
)

LEDGER_METRICS = (
    OLDEST_WAITING,
    UP,
    JOBS,
    JOBS_ENDED,
    BATCHES,
    BATCHES_ENDED,
    DOCUMENTS,
    QUARANTINED,
    NODES,
    TOKENS,
    COST,
    CACHE_LOOKUPS,
    REDIS_MEMORY,
    REDIS_LIMIT,
    REDIS_KEYS,
)
WORKER_METRICS = (STAGE_SECONDS, RETRIES, RECONCILED)
METRICS = LEDGER_METRICS + WORKER_METRICS
