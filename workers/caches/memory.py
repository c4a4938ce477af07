"""A cache in this process's memory: bounded, least recently used out first. Other processes do not see it."""

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock

from workers.caches.contract import DEFAULT_CACHE_COLLECTION, CacheSize

__all__ = ["MEMORY_BYTES", "MemoryCache"]

MEMORY_BYTES = 64 * 1024 * 1024  # bound where none is given: of each process
_ENTRY_BYTES = 250  # about what CPython adds to a key and a value: three object headers and a slot in the dict


class MemoryCache:
    """Bytes by collection and key within one process, safe among its threads.

    Args:
        max_bytes: bound on keys and values together; a value that alone is larger is not kept.
    """

    def __init__(self, max_bytes: int = MEMORY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get_many(self, keys: Sequence[str], collection: str = DEFAULT_CACHE_COLLECTION) -> list[bytes | None]:
        """The values in the order of the keys, None where there is none."""
        with self._lock:
            return [self._get((collection, key)) for key in keys]

    def put_many(self, values: Mapping[str, bytes], collection: str = DEFAULT_CACHE_COLLECTION) -> None:
        """Store all values, and forget the least recently used while there are too many bytes."""
        with self._lock:
            for key, value in values.items():
                self._put((collection, key), value)

    def claim_many(self, keys: Sequence[str], seconds: float, collection: str = DEFAULT_CACHE_COLLECTION) -> list[str]:
        """All of them: other processes do not see what is worked out here."""
        return list(keys)

    def release_many(self, keys: Sequence[str], collection: str = DEFAULT_CACHE_COLLECTION) -> None:
        """Nothing was claimed."""

    def clear(self, collection: str | None = None) -> int:
        """Forget a collection, or everything; returns how many entries that were."""
        with self._lock:
            gone = [name for name in self._values if collection in (None, name[0])]
            for name in gone:
                self._remove(name)
            return len(gone)

    def sizes(self) -> dict[str, CacheSize]:
        """{collection: size} of the collections that hold something."""
        entries: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for (collection, _), value in self.items():
            entries[collection] += 1
            held[collection] += len(value)
        return {collection: CacheSize(count, held[collection]) for collection, count in entries.items()}

    def items(self) -> list[tuple[tuple[str, str], bytes]]:
        """((collection, key), value) of all entries, the least recently used first."""
        with self._lock:
            return list(self._values.items())

    def close(self) -> None:
        """Nothing to let go of."""

    def _get(self, name: tuple[str, str]) -> bytes | None:
        value = self._values.get(name)
        if value is not None:
            self._values.move_to_end(name)
        return value

    def _put(self, name: tuple[str, str], value: bytes) -> None:
        if name in self._values:
            self._remove(name)
        if _weight(name, value) > self._max_bytes:
            return
        self._values[name] = value
        self._bytes += _weight(name, value)
        while self._bytes > self._max_bytes:
            self._remove(next(iter(self._values)))

    def _remove(self, name: tuple[str, str]) -> None:
        self._bytes -= _weight(name, self._values.pop(name))


def _weight(name: tuple[str, str], value: bytes) -> int:
    return len(name[1]) + len(value) + _ENTRY_BYTES
