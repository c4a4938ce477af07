"""How often the jobs in the ledger found what they looked for in the ingestion cache, by cache collection."""

from sqlalchemy import Connection, func, select

from orchestrator.contracts.report import CacheCounts
from orchestrator.contracts.spec import DEFAULT_CACHE_COLLECTION
from orchestrator.ledger.tables import batches, jobs

__all__ = ["cache_counts"]


def cache_counts(connection: Connection) -> dict[str, CacheCounts]:
    """{cache collection: look-ups of all its jobs}, of the collections that a job has used."""
    # Jobs from before there were cache collections say none.
    collection = func.coalesce(jobs.c.spec["cache_collection"].as_string(), DEFAULT_CACHE_COLLECTION)
    of_jobs = select(jobs.c.id, collection.label("collection")).subquery()
    query = (
        select(of_jobs.c.collection, func.sum(batches.c.cache_hits), func.sum(batches.c.cache_misses))
        .join(batches, batches.c.job_id == of_jobs.c.id)
        .group_by(of_jobs.c.collection)
    )
    return {name: CacheCounts(hits=hits, misses=misses) for name, hits, misses in connection.execute(query)}
