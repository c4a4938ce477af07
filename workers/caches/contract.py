"""The port of a cache backend: small values by collection and key, many of them in one round trip."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from orchestrator.contracts.spec import DEFAULT_CACHE_COLLECTION

__all__ = ["DEFAULT_CACHE_COLLECTION", "CacheBackend", "CacheSize"]


class CacheSize(NamedTuple):
    """How much of a collection is remembered.

    Attributes:
        entries: values.
        bytes: of the values alone; keys and what the backend adds come on top.
    """

    entries: int
    bytes: int


class CacheBackend(Protocol):
    """Bytes by collection and key. A cache may forget anything at any time; it never answers with another key's value.

    A collection's name is a-z, 0-9, - and _.
    """

    def get_many(self, keys: Sequence[str], collection: str = DEFAULT_CACHE_COLLECTION) -> list[bytes | None]:
        """The values in the order of the keys, None where there is none. An empty sequence asks nobody."""
        ...

    def put_many(self, values: Mapping[str, bytes], collection: str = DEFAULT_CACHE_COLLECTION) -> None:
        """Store all values; the last one put under a key wins."""
        ...

    def claim_many(self, keys: Sequence[str], seconds: float, collection: str = DEFAULT_CACHE_COLLECTION) -> list[str]:
        """Those of the keys that nobody else has claimed: they are the caller's to work out, for so many seconds.

        Best effort: a backend that cannot tell, or whose server does not answer, leaves all of them to the caller.
        """
        ...

    def release_many(self, keys: Sequence[str], collection: str = DEFAULT_CACHE_COLLECTION) -> None:
        """Give up claims, before their time is over."""
        ...

    def clear(self, collection: str | None = None) -> int:
        """Forget a collection, or all that this cache stored; returns how many entries that were.

        Raises:
            ServiceUnreachable: the server does not answer, so entries may still be there.
        """
        ...

    def sizes(self) -> dict[str, CacheSize]:
        """{collection: size} of the collections that hold something. Looks at every entry.

        Raises:
            ServiceUnreachable: the server does not answer.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
