"""IngestionCache: what a transformation made of a document, an embedder of a text, and a language model of a prompt.

Values carry no identity: ids are bound when they are read, so two documents with equal content share an entry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Self

from orchestrator.contracts.errors import ConfigurationError, PayloadError
from orchestrator.contracts.hashing import digest
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.payload import pack, unpack
from orchestrator.contracts.spec import COLLECTION_PATTERN
from workers.caches.contract import DEFAULT_CACHE_COLLECTION, CacheBackend, CacheSize
from workers.caches.memory import MEMORY_BYTES, MemoryCache
from workers.caches.snapshot import read_snapshot, write_snapshot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CacheStatistics", "IngestionCache"]

# Raised when the form of the values changes: older entries are then never found again.
_FORMAT = "1"


class CacheStatistics(NamedTuple):
    """What a cache was good for, and how much it holds.

    Attributes:
        hits, misses: keys that this object was asked for, and had or had not.
        entries, bytes: of one collection, whoever stored them; bytes of the values alone.
    """

    hits: int
    misses: int
    entries: int
    bytes: int


class IngestionCache:
    """Typed look-ups over a cache backend, each one round trip whatever the number of keys.

    A key says all that a value depends on: `step_key`, `embedding_key` and `answer_key` make them.

    Args:
        collection: where entries lie unless a call says otherwise: a-z, 0-9, - and _.
        cache: the backend; default: the memory of this process.

    Raises (every method that takes a collection):
        ConfigurationError: its name is not allowed.
    """

    def __init__(self, collection: str = DEFAULT_CACHE_COLLECTION, cache: CacheBackend | None = None) -> None:
        self.collection = _checked(collection)
        self.cache: CacheBackend = MemoryCache() if cache is None else cache
        self._hits = 0
        self._misses = 0
        self._lock = Lock()

    @staticmethod
    def step_key(chain_fingerprint: str, content_hash: str) -> str:
        """The key of a document's nodes after the steps of this fingerprint."""
        return "s" + digest(_FORMAT, chain_fingerprint, content_hash)

    @staticmethod
    def embedding_key(model: str, text: str, server: str = "") -> str:
        """The key of a text's vector by a model, of this server."""
        return "e" + digest(_FORMAT, model, text, *_named(server))

    @staticmethod
    def answer_key(llm: str, prompt: str, max_tokens: int | None, server: str = "") -> str:
        """The key of what a language model, of this server, answered to a prompt."""
        return "a" + digest(_FORMAT, llm, "" if max_tokens is None else str(max_tokens), prompt, *_named(server))

    def get(self, key: str, collection: str | None = None) -> list[Node] | None:
        """The nodes under a step key, without ids; None if there are none."""
        return self.get_many([key], collection).get(key)

    def put(self, key: str, nodes: Sequence[Node], collection: str | None = None) -> None:
        """Remember nodes under a step key."""
        self.put_many({key: nodes}, collection)

    def get_many(self, keys: Sequence[str], collection: str | None = None) -> dict[str, list[Node]]:
        """{key: nodes} of the steps that are known. A damaged entry is as good as none."""
        found = {}
        for key, value in zip(keys, self.cache.get_many(keys, self._in(collection)), strict=True):
            if value is None:
                continue
            try:
                found[key] = [
                    Node(text=text, metadata=metadata, start=start, end=end, token_count=tokens)
                    for text, metadata, start, end, tokens in unpack(value)
                ]
            except (PayloadError, TypeError, ValueError):
                continue
        self._count(keys, found)
        return found

    def put_many(self, entries: Mapping[str, Sequence[Node]], collection: str | None = None) -> None:
        """Remember nodes by step key."""
        self.cache.put_many(
            {
                key: pack([(node.text, node.metadata, node.start, node.end, node.token_count) for node in nodes])
                for key, nodes in entries.items()
            },
            self._in(collection),
        )

    def embeddings(
        self, keys: Sequence[str], dimension: int, collection: str | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """{key: vector} of the texts that are known."""
        import numpy as np

        size = 4 * dimension
        values = self.cache.get_many(keys, self._in(collection))
        found = {
            key: np.frombuffer(value, np.float32)
            for key, value in zip(keys, values, strict=True)
            if value is not None and len(value) == size
        }
        self._count(keys, found)
        return found

    def put_embeddings(self, entries: Mapping[str, NDArray[np.float32]], collection: str | None = None) -> None:
        """Remember vectors by embedding key."""
        import numpy as np

        values = {key: np.asarray(vector, np.float32).tobytes() for key, vector in entries.items()}
        self.cache.put_many(values, self._in(collection))

    def claim(self, keys: Sequence[str], seconds: float) -> list[str]:
        """Those of the keys that nobody else is working out; they are the caller's for so many seconds. Best effort."""
        return self.cache.claim_many(keys, seconds, self.collection)

    def release(self, keys: Sequence[str]) -> None:
        """Give up what was claimed: it has been stored, or will not be."""
        self.cache.release_many(keys, self.collection)

    def answers(self, keys: Sequence[str], collection: str | None = None) -> dict[str, str]:
        """{key: answer} of the prompts that are known. A damaged entry is as good as none."""
        found = {}
        for key, value in zip(keys, self.cache.get_many(keys, self._in(collection)), strict=True):
            with suppress(UnicodeDecodeError):
                if value is not None:
                    found[key] = value.decode("utf-8", "surrogatepass")
        self._count(keys, found)
        return found

    def put_answers(self, entries: Mapping[str, str], collection: str | None = None) -> None:
        """Remember answers by answer key."""
        values = {key: answer.encode("utf-8", "surrogatepass") for key, answer in entries.items()}
        self.cache.put_many(values, self._in(collection))

    def clear(self, collection: str | None = None) -> int:
        """Forget a collection, this cache's own if none is named; returns how many entries that were.

        Raises:
            ServiceUnreachable: the backend does not answer, so entries may still be there.
        """
        return self.cache.clear(self._in(collection))

    def statistics(self, collection: str | None = None) -> CacheStatistics:
        """Hits and misses of this object in all collections, entries and bytes of one. Looks at every entry.

        Raises:
            ServiceUnreachable: the backend does not answer.
        """
        size = self.cache.sizes().get(self._in(collection), CacheSize(0, 0))
        return CacheStatistics(self._hits, self._misses, size.entries, size.bytes)

    def persist(self, path: str | Path) -> None:
        """Write all collections of a cache in memory to a file, whole or not at all.

        Raises:
            ConfigurationError: the backend is another, and needs no file.
            OSError: the file cannot be written; one that was there is as it was.
        """
        if not isinstance(self.cache, MemoryCache):
            kind = type(self.cache).__name__
            raise ConfigurationError(f"{kind} cannot be persisted: only a cache in memory is written to a file")
        write_snapshot(Path(path), self.cache.items())

    @classmethod
    def from_persist_path(
        cls, path: str | Path, collection: str = DEFAULT_CACHE_COLLECTION, *, max_bytes: int = MEMORY_BYTES
    ) -> Self:
        """A cache in memory with what `persist` wrote; past `max_bytes`, with what was used last.

        Raises:
            OSError: the file cannot be read.
            PayloadError: it is not what `persist` wrote, damaged, or of another version; names the file.
        """
        backend = MemoryCache(max_bytes)
        for name, entries in groupby(read_snapshot(Path(path)), lambda entry: entry[0][0]):
            backend.put_many({key: value for (_, key), value in entries}, name)
        return cls(collection, backend)

    def _in(self, collection: str | None) -> str:
        return self.collection if collection is None else _checked(collection)

    def _count(self, keys: Sequence[str], found: Mapping[str, object]) -> None:
        with self._lock:
            self._hits += len(found)
            self._misses += len(set(keys)) - len(found)


def _named(server: str) -> tuple[str, ...]:
    return (server,) if server else ()


def _checked(collection: str) -> str:
    if not re.fullmatch(COLLECTION_PATTERN, collection):
        raise ConfigurationError(
            f"cache collection {collection!r}: allowed are 1 to 63 of a-z, 0-9, - and _, the first a letter or digit"
        )
    return collection
