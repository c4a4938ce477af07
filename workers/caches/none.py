"""The cache of a pipeline that wants none."""

from collections.abc import Mapping, Sequence

from workers.caches.contract import DEFAULT_CACHE_COLLECTION, CacheSize

__all__ = ["NoCache"]


class NoCache:
    """Finds nothing, and keeps nothing."""

    def get_many(self, keys: Sequence[str], collection: str = DEFAULT_CACHE_COLLECTION) -> list[bytes | None]:
        """None for every key."""
        return [None] * len(keys)

    def put_many(self, values: Mapping[str, bytes], collection: str = DEFAULT_CACHE_COLLECTION) -> None:
        """Forget at once."""

    def claim_many(self, keys: Sequence[str], seconds: float, collection: str = DEFAULT_CACHE_COLLECTION) -> list[str]:
        """All of them: who has no cache finds nothing that others worked out."""
        return list(keys)

    def release_many(self, keys: Sequence[str], collection: str = DEFAULT_CACHE_COLLECTION) -> None:
        """Nothing was claimed."""

    def clear(self, collection: str | None = None) -> int:
        """There is nothing to forget."""
        return 0

    def sizes(self) -> dict[str, CacheSize]:
        """No collection holds anything."""
        return {}

    def close(self) -> None:
        """Nothing to let go of."""
