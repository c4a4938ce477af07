"""The port of a cache backend: small values by key, asked for and stored in one round trip a call."""

from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["CacheBackend"]


class CacheBackend(Protocol):
    """Bytes by key. A cache may forget anything at any time; it never answers with another key's value."""

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in the order of the keys, None where there is none. An empty sequence asks nobody."""
        ...

    def put_many(self, values: Mapping[str, bytes]) -> None:
        """Store all values; the last one put under a key wins."""
        ...

    def clear(self) -> None:
        """Forget everything that this cache stored."""
        ...
