"""Cache backends: bytes by key, which may be forgotten at any time. The contract, and one file a kind of cache.

A lazy door: a name is imported when it is asked for, and a backend's library when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.caches.contract import CacheBackend
    from workers.caches.memory import MemoryCache
    from workers.caches.redis import RedisCache

__all__ = ["CacheBackend", "MemoryCache", "RedisCache"]

_HOMES = {"CacheBackend": "contract", "MemoryCache": "memory", "RedisCache": "redis"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
