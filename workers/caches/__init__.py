"""The ingestion cache, and its backends: what they hold may be forgotten at any time. One file a kind of backend.

A lazy door: a name is imported when it is asked for, and a backend's library when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.caches.contract import CacheBackend, CacheSize
    from workers.caches.ingestion_cache import CacheStatistics, IngestionCache
    from workers.caches.memory import MemoryCache
    from workers.caches.none import NoCache
    from workers.caches.redis import RedisCache
    from workers.caches.registry import open_cache
    from workers.caches.sql import SqlCache

__all__ = [
    "CacheBackend",
    "CacheSize",
    "CacheStatistics",
    "IngestionCache",
    "MemoryCache",
    "NoCache",
    "RedisCache",
    "SqlCache",
    "open_cache",
]

_HOMES = {
    "CacheBackend": "contract",
    "CacheSize": "contract",
    "CacheStatistics": "ingestion_cache",
    "IngestionCache": "ingestion_cache",
    "MemoryCache": "memory",
    "NoCache": "none",
    "RedisCache": "redis",
    "SqlCache": "sql",
    "open_cache": "registry",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
