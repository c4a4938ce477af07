"""Where a job's time went, by the ledger's own timestamps; what they do not explain is the rest."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tests.benchmarks.stack import Database

__all__ = ["Stages", "stages_of"]

_TIMES = """
SELECT j.created_at, j.listed_at, j.finished_at,
       min(b.started_at), max(b.transformed_at), max(b.finished_at), count(b.number),
       coalesce(sum(extract(epoch FROM b.transformed_at - b.started_at)), 0)::float8,
       coalesce(sum(extract(epoch FROM b.started_at - b.published_at)), 0)::float8,
       coalesce(sum(extract(epoch FROM b.finished_at - b.transformed_at)), 0)::float8,
       coalesce(sum(b.cache_hits), 0), coalesce(sum(b.cache_misses), 0)
FROM jobs j LEFT JOIN batches b ON b.job_id = j.id
WHERE j.id = '{job}' GROUP BY j.number
"""


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds of one job.

    Along the wall clock, one after the other: `listing` (the client reads, decides and writes batches, while workers
    are at it already), `transforming` (the last batches are transformed), `committing` (the last are committed),
    `finishing`, `telling` (until the client's `wait` is back), and `unaccounted`: the client's time before the job
    had its row.

    Summed over batches: `transform` (leased to transformed), `waiting_for_worker` (published to leased) and
    `waiting_for_commit` (transformed to committed). `workers_rest` is what the worker processes had besides
    transforming while the job ran: committing, and waiting for work.
    """

    batches: int
    listing: float
    transforming: float
    committing: float
    finishing: float
    telling: float
    unaccounted: float
    first_start: float
    transform: float
    waiting_for_worker: float
    waiting_for_commit: float
    workers_rest: float
    cache_hits: int
    cache_misses: int

    def as_facts(self) -> dict[str, float]:
        """For the results."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def stages_of(database: Database, job: str, *, seconds: float, ended_at: float, workers: int) -> Stages:
    """The stages of a job that its client saw take `seconds`, until the Unix time `ended_at`."""
    (row,) = database.rows(_TIMES.format(job=job))
    created, listed, finished = (moment.timestamp() for moment in row[:3])
    # A job without batches has done all of this when its listing ends.
    started, transformed, committed = (listed if moment is None else moment.timestamp() for moment in row[3:6])
    count, transform, for_worker, for_commit, hits, misses = row[6:]
    last_transformed = max(listed, transformed)
    last_committed = max(last_transformed, committed)
    return Stages(
        batches=count,
        listing=listed - created,
        transforming=last_transformed - listed,
        committing=last_committed - last_transformed,
        finishing=finished - last_committed,
        telling=ended_at - finished,
        unaccounted=seconds - (ended_at - created),
        first_start=started - created,
        transform=transform,
        waiting_for_worker=for_worker,
        waiting_for_commit=for_commit,
        workers_rest=workers * (finished - created) - transform,
        cache_hits=hits,
        cache_misses=misses,
    )
