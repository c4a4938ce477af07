"""IngestionCache: what is put comes out, by key and collection, without identity; and files are whole or refused."""

import os
from pathlib import Path

import numpy as np
import pytest

from orchestrator.contracts.errors import ConfigurationError, PayloadError
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.payload import pack
from workers.caches import CacheStatistics, IngestionCache, MemoryCache, NoCache
from workers.caches import snapshot as snapshot_module

_KEY = IngestionCache.step_key("fingerprint", "content hash")


def nodes() -> list[Node]:
    """Nodes as a splitter makes them, and with what a commit would bind."""
    return [
        Node("one \ud800", {"page": 1, "tags": ["a"]}, 0, 5, 2, id="id", document_id="document", position=7),
        Node("two", {}, None, None, 1, embedding=np.ones(3, np.float32), previous_id="id"),
    ]


def test_nodes_come_back_without_identity() -> None:
    """Text, metadata, span and count of nodes come back; whose nodes they were, and their vectors, do not."""
    cache = IngestionCache()
    cache.put(_KEY, nodes())
    assert cache.get(_KEY) == [
        Node("one \ud800", {"page": 1, "tags": ["a"]}, 0, 5, 2),
        Node("two", {}, None, None, 1),
    ]
    assert cache.get("unknown") is None


def test_no_nodes_are_something_to_remember() -> None:
    """That a document has no nodes is remembered like any other result."""
    cache = IngestionCache()
    cache.put(_KEY, [])
    assert cache.get(_KEY) == []


def test_many_at_once() -> None:
    """Many nodes, vectors and answers go in and come out by key; what is unknown is left out."""
    cache = IngestionCache()
    cache.put_many({"a": nodes(), "b": []})
    assert list(cache.get_many(["a", "x", "b"])) == ["a", "b"]
    cache.put_embeddings({"v": np.array([1.5, -2.0], np.float32)})
    assert cache.embeddings(["v", "x"], 2)["v"].tolist() == [1.5, -2.0]
    assert cache.embeddings(["v"], 3) == {}, "a vector of another dimension is none"
    cache.put_answers({"q": "an answer \ud800", "empty": ""})
    assert cache.answers(["q", "x", "empty"]) == {"q": "an answer \ud800", "empty": ""}


def test_what_is_put_again_is_found_as_it_was_put_last() -> None:
    """Nodes, vectors and answers that are put under a key again take the place of the older ones, damaged ones too."""
    cache = IngestionCache()
    key = cache.answer_key("openai/small", "a prompt", None)
    cache.cache.put_many({key: b"\xff damaged"})
    assert cache.answers([key]) == {}
    for answer in ("first", "", "\ud800 second"):
        cache.put_answers({key: answer})
        assert cache.answers([key, key]) == {key: answer}
    for vector in (np.zeros(3, np.float32), np.array([1.0, 2.0, 3.0])):  # of float64: stored as float32
        cache.put_embeddings({"e": vector})
        assert cache.embeddings(["e"], 3)["e"].tolist() == vector.tolist()
    for found in ([Node("one")], []):
        cache.put("s", found)
        assert cache.get("s") == found


def test_keys_are_injective() -> None:
    """Fields that read the same in one piece make different keys, and each kind of entry has keys of its own."""
    keys = [
        IngestionCache.step_key("ab", "c"),
        IngestionCache.step_key("a", "bc"),
        IngestionCache.embedding_key("ab", "c"),
        IngestionCache.embedding_key("a", "bc"),
        IngestionCache.answer_key("ab", "c", None),
        IngestionCache.answer_key("a", "bc", None),
        IngestionCache.answer_key("a", "bc", 1),
        IngestionCache.embedding_key("a", "b", "c"),
        IngestionCache.embedding_key("a", "b", "d"),
        IngestionCache.answer_key("a", "b", None, "c"),
    ]
    assert len(set(keys)) == len(keys)


def test_a_damaged_entry_is_none() -> None:
    """What cannot be read counts as unknown, and is worked out again."""
    backend = MemoryCache()
    cache = IngestionCache(cache=backend)
    cache.put("whole", nodes())
    (whole,) = backend.get_many(["whole"])
    assert whole is not None
    backend.put_many({"cut": whole[:-3], "other": b"\xff\xfe", "flipped": whole[:12] + b"\0\0" + whole[14:]})
    assert list(cache.get_many(["cut", "whole", "other", "flipped"])) == ["whole"]
    assert cache.answers(["other"]) == {}


def test_collections() -> None:
    """A cache works in its collection unless a call names another; clearing one leaves the others."""
    backend = MemoryCache()
    ours, drafts = IngestionCache(cache=backend), IngestionCache(collection="drafts", cache=backend)
    ours.put(_KEY, nodes())
    assert drafts.get(_KEY) is None
    assert drafts.get(_KEY, collection="default") is not None
    drafts.put(_KEY, [])
    assert (ours.clear(collection="drafts"), drafts.get(_KEY)) == (1, None)
    assert (ours.clear(), ours.get(_KEY)) == (1, None)


@pytest.mark.parametrize("name", ["", "Upper", "with space", "a:b", "a/b", "-a", "a" * 64, "a\n", "ä"])
def test_names_of_collections_are_checked(name: str) -> None:
    """A name that is not allowed is an error that shows it and says what is, wherever it is given."""
    for act in (
        lambda: IngestionCache(collection=name),
        lambda: IngestionCache().get("key", collection=name),
        lambda: IngestionCache().put("key", [], collection=name),
        lambda: IngestionCache().clear(name),
        lambda: IngestionCache().statistics(name),
    ):
        with pytest.raises(ConfigurationError, match="1 to 63 of a-z") as caught:
            act()
        assert repr(name) in str(caught.value)


def test_statistics() -> None:
    """Hits and misses count keys asked for, each once a call; entries and bytes are those of the collection."""
    cache = IngestionCache()
    assert cache.statistics() == CacheStatistics(0, 0, 0, 0)
    cache.put_answers({"a": "four", "b": "fives"})
    cache.answers(["a", "b", "x"])
    cache.get("y")
    cache.embeddings(["z", "z"], 2)
    assert cache.statistics() == CacheStatistics(hits=2, misses=3, entries=2, bytes=9)
    assert cache.statistics("drafts") == CacheStatistics(hits=2, misses=3, entries=0, bytes=0)


def test_persist_and_load(tmp_path: Path) -> None:
    """What is persisted is loaded again: all collections, the least recently used still first to be forgotten."""
    file = tmp_path / "cache"
    cache = IngestionCache(collection="drafts")
    cache.put(_KEY, nodes())
    cache.put_embeddings({"v": np.ones(2, np.float32)}, collection="default")
    cache.persist(file)
    loaded = IngestionCache.from_persist_path(file, collection="drafts")
    assert loaded.get(_KEY) == cache.get(_KEY)
    assert loaded.embeddings(["v"], 2, collection="default")["v"].tolist() == [1, 1]
    assert loaded.statistics()[2:] == cache.statistics()[2:]
    assert file.stat().st_mode & 0o777 == 0o600, "texts of documents are nobody else's"

    small = MemoryCache()
    small.put_many({"old": bytes(1000), "new": bytes(1000)})
    small.get_many(["old"])
    IngestionCache(cache=small).persist(file)
    halved = IngestionCache.from_persist_path(file, max_bytes=1500)
    assert [value is not None for value in halved.cache.get_many(["old", "new"])] == [True, False]


def test_persisting_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing that breaks off leaves the file that was there, and nothing beside it."""
    file = tmp_path / "cache"
    cache = IngestionCache()
    cache.put_answers({"a": "before"})
    cache.persist(file)
    before = file.read_bytes()
    cache.put_answers({"a": "after"})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.persist(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(FileNotFoundError):
        cache.persist(tmp_path / "none" / "cache")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"", "no cache that docmill persisted"),
        (lambda data: b"PK\x03\x04", "no cache that docmill persisted"),
        (lambda data: data[:13] + b"\x09" + data[14:], "another version of docmill"),
        (lambda data: data[:20], "is damaged"),
        (lambda data: data[:-5], "is damaged"),
        (lambda data: data[:30] + bytes([data[30] ^ 255]) + data[31:], "is damaged"),
        (lambda data: data[:14] + pack({"a": 1}), "is damaged"),
        (lambda data: data[:14] + pack([1, 2]), "is damaged"),
        (lambda data: data[:14] + pack([("default", "key", "text")]), "is damaged"),
    ],
)
def test_a_damaged_file_is_a_clear_error(tmp_path: Path, damage: object, said: str) -> None:
    """A file that is not what persist wrote is an error that names it and says what to do."""
    assert callable(damage)
    file = tmp_path / "cache"
    cache = IngestionCache()
    cache.put(_KEY, nodes())
    cache.persist(file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(PayloadError, match=f"{file}.*{said}.*remove it"):
        IngestionCache.from_persist_path(file)


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file larger than any that persist writes is not even read, and one that unpacks to too much not unpacked."""
    file = tmp_path / "cache"
    with file.open("wb") as sparse:
        sparse.truncate((1 << 30) + 1)
    with pytest.raises(PayloadError, match="allowed are 1073741824"):
        IngestionCache.from_persist_path(file)
    cache = IngestionCache()
    cache.put_answers({"a": "b" * 1_000_000})
    cache.persist(file)
    assert file.stat().st_size < 10_000
    monkeypatch.setattr(snapshot_module, "_MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(PayloadError, match=r"unpacks to 10000.. bytes; allowed are 0 to 1000"):
        IngestionCache.from_persist_path(file)


def test_only_memory_is_persisted(tmp_path: Path) -> None:
    """Other backends have no file, and say so."""
    with pytest.raises(ConfigurationError, match="NoCache cannot be persisted"):
        IngestionCache(cache=NoCache()).persist(tmp_path / "cache")
