"""A cache in this process's memory: bounded, least recently used out first. Other processes do not see it."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock

__all__ = ["MemoryCache"]

_ENTRY_BYTES = 200  # about what CPython adds to a key and a value: two object headers and a slot in the dict


class MemoryCache:
    """Bytes by key within one process, safe among its threads.

    Args:
        max_bytes: bound on keys and values together; a value that alone is larger is not kept.
    """

    def __init__(self, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in the order of the keys, None where there is none."""
        with self._lock:
            return [self._get(key) for key in keys]

    def put_many(self, values: Mapping[str, bytes]) -> None:
        """Store all values, and forget the least recently used while there are too many bytes."""
        with self._lock:
            for key, value in values.items():
                self._put(key, value)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
            self._bytes = 0

    def _get(self, key: str) -> bytes | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def _put(self, key: str, value: bytes) -> None:
        replaced = self._values.pop(key, None)
        if replaced is not None:
            self._bytes -= _weight(key, replaced)
        if _weight(key, value) > self._max_bytes:
            return
        self._values[key] = value
        self._bytes += _weight(key, value)
        while self._bytes > self._max_bytes:
            self._bytes -= _weight(*self._values.popitem(last=False))


def _weight(key: str, value: bytes) -> int:
    return len(key) + len(value) + _ENTRY_BYTES
