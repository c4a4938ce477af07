"""A cache on Redis: shared by all workers, with a time to live, and never a reason for work to fail."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, TypeVar, cast

import structlog

from orchestrator.contracts.addresses import redacted, redis_client_url
from orchestrator.contracts.errors import ServiceUnreachable

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["RedisCache"]

_CHUNK_KEYS = 500  # keys a command: large enough to hide the round trip, small enough not to block the server
_TIMEOUT_SECONDS = 5.0
_PAUSE_SECONDS = 5.0  # after a failure nobody asks for so long, or every call would wait for its timeout
_LOG_SECONDS = 60.0  # between two warnings

_log = structlog.get_logger(__name__)
_Item = TypeVar("_Item")


class RedisCache:
    """Bytes by key on a Redis.

    A Redis that does not answer, or is full, costs hits and nothing else: reading finds nothing, writing stores
    nothing, a warning is logged once a minute, and for some seconds it is not asked again.

    Args:
        url: `redis://`, `rediss://`, `unix://` or Celery's `redis+socket://`.
        prefix: begins every key of this cache.
        ttl_seconds: how long an entry lives after it was last written.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        url: str,
        prefix: str = "docmill:cache:",
        ttl_seconds: int = 30 * 24 * 3600,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = redis_client_url(url)
        self._prefix = prefix
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._paused_until = float("-inf")
        self._silent_until = float("-inf")

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in the order of the keys; None where there is none, and for all if Redis does not answer."""
        if not keys or self._is_paused():
            return [None] * len(keys)
        values: list[bytes | None] = []
        try:
            for chunk in _chunks(keys):
                values += cast("list[bytes | None]", self._client.mget([self._prefix + key for key in chunk]))
        except self._tolerated as error:
            self._pause(error)
        return values + [None] * (len(keys) - len(values))

    def put_many(self, values: Mapping[str, bytes]) -> None:
        """Store all values; nothing happens if Redis does not answer."""
        if not values or self._is_paused():
            return
        try:
            for chunk in _chunks(values.items()):
                pipeline = self._client.pipeline(transaction=False)
                for key, value in chunk:
                    pipeline.set(self._prefix + key, value, ex=self._ttl_seconds)
                pipeline.execute()
        except self._tolerated as error:
            self._pause(error)

    def clear(self) -> None:
        """Forget every entry under the prefix.

        Raises:
            ServiceUnreachable: Redis does not answer, so the entries may still be there.
        """
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._prefix) + "*"
        try:
            for keys in _chunks(self._client.scan_iter(match=pattern, count=_CHUNK_KEYS)):
                self._client.unlink(*keys)
        except self._tolerated as error:
            raise ServiceUnreachable("cache", redacted(self._url), str(error)) from error

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    @cached_property
    def _client(self) -> Redis:
        from redis import Redis, exceptions
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return Redis.from_url(
            self._url,
            decode_responses=False,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            # Once more, at once: a connection from before a restart of Redis is dead, and the next one is not.
            retry=Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,)),
        )

    @cached_property
    def _tolerated(self) -> tuple[type[Exception], ...]:
        from redis import exceptions

        return (
            exceptions.ConnectionError,
            exceptions.TimeoutError,
            exceptions.OutOfMemoryError,
            exceptions.ReadOnlyError,
        )

    def _is_paused(self) -> bool:
        return self._clock() < self._paused_until

    def _pause(self, error: Exception) -> None:
        now = self._clock()
        self._paused_until = now + _PAUSE_SECONDS
        if now >= self._silent_until:
            self._silent_until = now + _LOG_SECONDS
            _log.warning("cache does not answer; working without it", address=redacted(self._url), reason=str(error))


def _chunks(items: Iterable[_Item]) -> Iterable[list[_Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, _CHUNK_KEYS)):
        yield chunk
