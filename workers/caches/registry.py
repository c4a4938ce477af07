"""Caches by address."""

from orchestrator.contracts.addresses import cache_kind
from workers.caches.contract import CacheBackend

__all__ = ["open_cache"]

_TTL_SECONDS = 30 * 24 * 3600


def open_cache(url: str, *, ttl_seconds: int = _TTL_SECONDS, max_bytes: int | None = None) -> CacheBackend:
    """The cache at that address; connects at the first use.

    Args:
        url: `redis://…`, `rediss://…`, `unix://…` or `redis+socket://…` for a Redis; `postgresql://…` or
            `sqlite:///PATH` for SQL; `memory://` for the memory of this process.
        ttl_seconds: how long an entry lives: in Redis after it was written, in SQL after it was used. Memory forgets
            nothing by age.
        max_bytes: bound on a cache in SQL (default 1 GiB) or memory (64 MiB). A Redis has its own `maxmemory`.

    Raises:
        ConfigurationError: the address is of none of these.
    """
    kind = cache_kind(url)
    if kind == "redis":
        from workers.caches.redis import RedisCache

        return RedisCache(url, ttl_seconds=ttl_seconds)
    if kind == "sql":
        from workers.caches.sql import SQL_BYTES, SqlCache

        return SqlCache(url, ttl_seconds=ttl_seconds, max_bytes=max_bytes or SQL_BYTES)
    from workers.caches.memory import MEMORY_BYTES, MemoryCache

    return MemoryCache(max_bytes or MEMORY_BYTES)
