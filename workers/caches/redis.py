"""A cache on Redis: shared by all workers, with a time to live, and never a reason for work to fail."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, TypeVar, cast

from orchestrator.contracts.addresses import redacted, redis_client_url
from orchestrator.contracts.errors import ServiceUnreachable
from workers.caches.contract import DEFAULT_CACHE_COLLECTION, CacheSize
from workers.caches.outage import Outage

if TYPE_CHECKING:
    from redis import Redis
    from redis.connection import AbstractConnection

__all__ = ["RedisCache"]

# SET key value EX seconds, as it stands on the wire: https://redis.io/docs/latest/develop/reference/protocol-spec/.
_SET = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nEX\r\n$%d\r\n%b\r\n"
_CHUNK_KEYS = 500  # keys at once: large enough to hide the round trip, small enough not to block the server
_TIMEOUT_SECONDS = 5.0

_Item = TypeVar("_Item")


class RedisCache:
    """Bytes by collection and key on a Redis: each entry is one value under `<prefix><collection>:<key>`.

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
        self._outage = Outage(self._url, clock)

    def get_many(self, keys: Sequence[str], collection: str = DEFAULT_CACHE_COLLECTION) -> list[bytes | None]:
        """The values in the order of the keys; None where there is none, and for all if Redis does not answer."""
        if not keys or self._outage.lasts:
            return [None] * len(keys)
        prefix = self._prefix_of(collection)
        values: list[bytes | None] = []
        try:
            for chunk in _chunks(keys):
                values += cast("list[bytes | None]", self._client.mget([prefix + key for key in chunk]))
        except self._tolerated as error:
            self._outage.begin(error)
        return values + [None] * (len(keys) - len(values))

    def put_many(self, values: Mapping[str, bytes], collection: str = DEFAULT_CACHE_COLLECTION) -> None:
        """Store all values; nothing happens if Redis does not answer."""
        if not values or self._outage.lasts:
            return
        prefix = self._prefix_of(collection)
        try:
            for chunk in _chunks(values.items()):
                self._set([((prefix + key).encode(), value) for key, value in chunk])
        except self._tolerated as error:
            self._outage.begin(error)

    def claim_many(self, keys: Sequence[str], seconds: float, collection: str = DEFAULT_CACHE_COLLECTION) -> list[str]:
        """Those of the keys that nobody else has claimed; all, if Redis does not answer."""
        if not keys or self._outage.lasts:
            return list(keys)
        prefix = self._claims_of(collection)
        given: list[bool | None] = []
        try:
            for chunk in _chunks(keys):
                pipeline = self._client.pipeline(transaction=False)
                for key in chunk:
                    pipeline.set(prefix + key, b"", nx=True, px=round(1000 * seconds))
                given += pipeline.execute()
        except self._tolerated as error:
            self._outage.begin(error)
            return list(keys)
        return [key for key, is_ours in zip(keys, given, strict=True) if is_ours]

    def release_many(self, keys: Sequence[str], collection: str = DEFAULT_CACHE_COLLECTION) -> None:
        """Give up claims; if Redis does not answer, they run out."""
        if not keys or self._outage.lasts:
            return
        prefix = self._claims_of(collection)
        try:
            for chunk in _chunks(keys):
                self._client.unlink(*(prefix + key for key in chunk))
        except self._tolerated as error:
            self._outage.begin(error)

    def clear(self, collection: str | None = None) -> int:
        """Forget a collection, or every entry under the prefix; returns how many entries that were.

        Raises:
            ServiceUnreachable: Redis does not answer, so the entries may still be there.
        """
        with self._needed():
            removed = 0
            for keys in self._found(collection):
                removed += self._client.unlink(*keys)
            return removed

    def sizes(self) -> dict[str, CacheSize]:
        """{collection: size} of the collections that hold something. Asks for the length of every value.

        Raises:
            ServiceUnreachable: Redis does not answer.
        """
        entries: Counter[str] = Counter()
        held: Counter[str] = Counter()
        with self._needed():
            for keys in self._found(None):
                pipeline = self._client.pipeline(transaction=False)
                for key in keys:
                    pipeline.strlen(key)
                for key, length in zip(keys, pipeline.execute(), strict=True):
                    collection, is_ours, _ = key.decode(errors="replace").removeprefix(self._prefix).partition(":")
                    if is_ours:
                        entries[collection] += 1
                        held[collection] += length
        return {collection: CacheSize(count, held[collection]) for collection, count in entries.items()}

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

    def _set(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Store entries by keys as Redis knows them, in one write.

        To have the client pack the commands takes four times as long as to carry them out, and a script that sets
        many keys takes twice as long on either side.
        """
        seconds = str(self._ttl_seconds).encode()
        packed = b"".join(_SET % (len(key), key, len(value), value, len(seconds), seconds) for key, value in entries)
        pool = self._client.connection_pool
        connection = pool.get_connection()
        try:
            connection.retry.call_with_retry(
                lambda: _exchange(connection, packed, len(entries)),
                lambda error: connection.disconnect(),  # type: ignore[no-untyped-call]
            )
        finally:
            pool.release(connection)

    @cached_property
    def _tolerated(self) -> tuple[type[Exception], ...]:
        from redis import exceptions

        return (
            exceptions.ConnectionError,
            exceptions.TimeoutError,
            exceptions.OutOfMemoryError,
            exceptions.ReadOnlyError,
        )

    @contextmanager
    def _needed(self) -> Iterator[None]:
        """A block that makes no sense without the server."""
        try:
            yield
        except self._tolerated as error:
            raise ServiceUnreachable("cache", redacted(self._url), str(error)) from error

    def _prefix_of(self, collection: str) -> str:
        return f"{self._prefix}{collection}:"

    def _claims_of(self, collection: str) -> str:
        # Not under the prefix of the entries: claims are none, and go by themselves.
        return f"{self._prefix.removesuffix(':')}-claims:{collection}:"

    def _found(self, collection: str | None) -> Iterable[list[bytes]]:
        """The keys of a collection, or all under the prefix, in chunks; a key may come twice while Redis grows."""
        prefix = self._prefix if collection is None else self._prefix_of(collection)
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", prefix) + "*"
        return _chunks(self._client.scan_iter(match=pattern, count=_CHUNK_KEYS))


def _exchange(connection: AbstractConnection, packed: bytes, replies: int) -> None:
    """Send packed commands, and hear of each; raises the first refusal, once all have been heard."""
    from redis import ResponseError

    refusals = []
    connection.send_packed_command([packed])  # type: ignore[no-untyped-call]
    for _ in range(replies):
        try:
            connection.read_response()
        except ResponseError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _chunks(items: Iterable[_Item]) -> Iterable[list[_Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, _CHUNK_KEYS)):
        yield chunk
