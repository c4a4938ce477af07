"""Aggregation in Redis: a blob a batch, counted by batch number, gathered into segments for the commits.

Redis is disposable here. Whatever is lost of this state, the ledger still has the batches, and the reconciler sends
them through again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.contracts.messages import job_channel

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["Aggregator"]

_LUA = Path(__file__).with_name("aggregate.lua")
_KEPT_SECONDS = 6 * 3600  # longer than any commit could wait; a forgotten job leaves nothing behind
_SEGMENT_MILLISECONDS = 2000  # nodes are searchable about so long after they were made, however slow the embedder


class Aggregator:
    """The results of running jobs, in one Redis. `{job}` in a key keeps a job's keys on one node of a cluster."""

    def __init__(self, redis: Redis, *, segment_batches: int, segment_bytes: int) -> None:
        self.redis = redis
        self.segment_batches = segment_batches
        self.segment_bytes = segment_bytes
        self._count = redis.register_script(_LUA.read_text(encoding="utf-8"))

    @staticmethod
    def _key(job_id: str, name: str) -> str:
        return f"docmill:{{{job_id}}}:{name}"

    def _blob_key(self, job_id: str, number: int, attempt: int) -> str:
        return self._key(job_id, f"blob:{number}:{attempt}")

    def store(self, job_id: str, number: int, attempt: int, blob: bytes) -> None:
        """Lay down the blob of one attempt; the ledger decides which attempt counts."""
        self.redis.set(self._blob_key(job_id, number, attempt), blob, ex=_KEPT_SECONDS)

    def count(self, job_id: str, number: int, *, nodes: int = 0, tokens: int = 0, blob_bytes: int = 0) -> list[int]:
        """Count a batch, once; returns the numbers of the batches to commit now, often none."""
        segment: Any = self._count(
            keys=[self._key(job_id, name) for name in ("state", "done", "ready")],
            args=[
                number,
                nodes,
                tokens,
                blob_bytes,
                self.segment_batches,
                self.segment_bytes,
                _SEGMENT_MILLISECONDS,
                _KEPT_SECONDS,
            ],
        )
        return _unique(segment)

    def take(self, job_id: str) -> list[int]:
        """Take whatever waits for a commit."""
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.lrange(self._key(job_id, "ready"), 0, -1)
            pipe.unlink(self._key(job_id, "ready"))
            pipe.hset(self._key(job_id, "state"), "bytes", 0)
            return _unique(pipe.execute()[0])

    def blobs(self, job_id: str, attempts: dict[int, int]) -> Iterator[tuple[int, bytes]]:
        """(number, blob) of the given {number: attempt}, as far as Redis still has them; one at a time in memory."""
        for number, attempt in attempts.items():
            blob: Any = self.redis.get(self._blob_key(job_id, number, attempt))
            if blob is not None:
                yield number, blob

    def drop(self, job_id: str, attempts: dict[int, int]) -> None:
        """Forget blobs that are committed, and tell whoever waits for the job."""
        with self.redis.pipeline(transaction=False) as pipe:
            if attempts:
                pipe.unlink(*(self._blob_key(job_id, *item) for item in attempts.items()))
            pipe.publish(job_channel(job_id), "committed")
            pipe.execute()

    def forget(self, job_id: str) -> None:
        """The job has ended: drop its state, and tell whoever waits."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.unlink(*(self._key(job_id, name) for name in ("state", "done", "ready")))
            pipe.publish(job_channel(job_id), "finished")
            pipe.execute()

    def state(self, job_id: str) -> dict[str, int]:
        """Live counts, for looking at; the ledger has the true ones."""
        found: Any = self.redis.hgetall(self._key(job_id, "state"))
        return {name.decode(): int(value) for name, value in found.items()}


def _unique(numbers: list[bytes]) -> list[int]:
    """Each number once: a batch that ran twice stands twice in the list."""
    return list(dict.fromkeys(int(number) for number in numbers))
