"""What every cache backend promises, held against each of them; and what a cache does without its server."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis

from orchestrator.contracts.addresses import redis_client_url
from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable
from tests.deployment import wait_for
from tests.logs import captured_logs
from workers.caches import CacheBackend, CacheSize, MemoryCache, NoCache, RedisCache, open_cache
from workers.caches import redis as redis_module

BINARY = bytes(range(256)) * 3


class Clock:
    """Seconds that grow when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "redis", "sqlite", "postgresql"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CacheBackend]:
    """Each cache, empty."""
    cache = _cache(request, tmp_path)
    yield cache
    cache.clear()
    cache.close()


def _cache(request: pytest.FixtureRequest, folder: Path) -> CacheBackend:
    if request.param == "redis":
        return RedisCache(request.getfixturevalue("cache_url"), prefix=f"{uuid4().hex}:")
    if request.param == "postgresql":
        return open_cache(request.getfixturevalue("postgres_url"))
    return open_cache({"memory": "memory://", "sqlite": f"sqlite:///{folder / 'cache.sqlite'}"}[request.param])


@pytest.fixture
def client(cache_url: str) -> Iterator[Redis]:
    """A client of the Redis behind the cache."""
    with Redis.from_url(redis_client_url(cache_url)) as client:
        yield client


def test_round_trip(cache: CacheBackend) -> None:
    """Values come back byte by byte, in the order of the keys, None where there is none."""
    cache.put_many({"a": BINARY, "b": b"", "ключ 漢 *?[x]": b"\0"})
    assert cache.get_many(["missing", "b", "a", "ключ 漢 *?[x]", "b"]) == [None, b"", BINARY, b"\0", b""]


def test_empty_calls(cache: CacheBackend) -> None:
    """No keys give no values, and no values are no error."""
    assert cache.get_many([]) == []
    cache.put_many({})


def test_last_value_wins(cache: CacheBackend) -> None:
    """A key that is put again has its new value."""
    cache.put_many({"a": b"1", "b": b"2"})
    cache.put_many({"a": b"3"})
    assert cache.get_many(["a", "b"]) == [b"3", b"2"]


def test_collections_are_apart(cache: CacheBackend) -> None:
    """The same key in another collection is another entry; clearing a collection leaves the others."""
    cache.put_many({"a": b"default"})
    cache.put_many({"a": b"drafts", "b": b""}, "drafts")
    cache.put_many({"a": b"drafts too"}, "drafts-2")
    assert cache.get_many(["a", "b"]) == [b"default", None]
    assert cache.get_many(["a", "b"], "drafts") == [b"drafts", b""]
    assert cache.get_many(["a"], "none") == [None]
    assert cache.clear("drafts") == 2
    assert cache.clear("drafts") == 0
    assert cache.get_many(["a"], "drafts") == [None]
    assert cache.get_many(["a"], "drafts-2") == [b"drafts too"]
    assert cache.clear() == 2
    assert cache.get_many(["a"]) == cache.get_many(["a"], "drafts-2") == [None]


def test_sizes(cache: CacheBackend) -> None:
    """Entries and bytes are counted by collection; a value that is put again counts once."""
    assert cache.sizes() == {}
    cache.put_many({str(number): bytes(10) for number in range(700)})
    cache.put_many({"0": bytes(110)})
    cache.put_many({"a": b""}, "drafts")
    assert cache.sizes() == {"default": CacheSize(700, 7100), "drafts": CacheSize(1, 0)}


def test_many_keys(cache: CacheBackend) -> None:
    """Thousands of keys go in and come out in one call."""
    values = {f"key-{number}": str(number).encode() * 50 for number in range(5000)}
    cache.put_many(values)
    assert cache.get_many(list(values)) == list(values.values())
    assert cache.clear() == 5000
    assert cache.get_many(list(values)) == [None] * 5000


def test_claims(cache: CacheBackend) -> None:
    """What one has claimed no other gets until it is released or its time is over; memory alone gives all to all."""
    is_shared = not isinstance(cache, MemoryCache)
    keys = [f"e{number}" for number in range(1200)]
    assert cache.claim_many(keys, 60.0) == keys
    assert cache.claim_many(["e1", "new", "e2"], 60.0) == (["new"] if is_shared else ["e1", "new", "e2"])
    assert cache.claim_many(["e1"], 60.0, "other") == ["e1"]
    cache.release_many(["e1", "unknown"])
    assert cache.claim_many(["e1"], 0.01) == ["e1"]
    wait_for(lambda: cache.claim_many(["e1"], 60.0))
    assert cache.claim_many([], 60.0) == []
    cache.release_many([])
    assert cache.get_many(["e1"]) == [None]
    assert cache.sizes() == {}
    cache.release_many([*keys, "new"])
    cache.release_many(["e1"], "other")


def test_threads(cache: CacheBackend) -> None:
    """Threads that read and write at once see values that were put, and no others."""

    def work(number: int) -> list[bytes | None]:
        keys = [f"key-{index}" for index in range(100)]
        cache.put_many({key: key.encode() for key in keys})
        return [value for key, value in zip(keys, cache.get_many(keys), strict=True) if value != key.encode()]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(32))) == [[]] * 32


def test_memory_forgets_the_least_recently_used() -> None:
    """A full cache in memory forgets what was not asked for the longest, and stays within its bound."""
    cache = MemoryCache(max_bytes=10 * 1300)
    for number in range(10):
        cache.put_many({str(number): bytes(1000)})
    assert cache.get_many(["0"]) == [bytes(1000)]
    cache.put_many({"x": bytes(1000)})
    assert cache.get_many(["0", "x", "9"]) == [bytes(1000)] * 3
    assert cache.get_many(["1"]) == [None]


def test_memory_and_a_value_above_its_bound() -> None:
    """A value that is too large is not kept, forgets no other, and does not leave an older one behind."""
    cache = MemoryCache(max_bytes=2000)
    cache.put_many({"a": b"old", "b": b"other"})
    cache.put_many({"a": bytes(3000)})
    assert cache.get_many(["a", "b"]) == [None, b"other"]


@pytest.mark.parametrize("prefix", ["docs:", "a*:", "[ab]?:", "\\:"])
def test_clear_keeps_what_others_stored(cache_url: str, client: Redis, prefix: str) -> None:
    """Clearing removes what lies under the cache's own prefix, letter by letter, and nothing else."""
    others = ["other", "doc", "axx:1", "aa:1", "b1:1", "x:1"]
    client.mset(dict.fromkeys(others, "kept"))
    cache = RedisCache(cache_url, prefix=prefix)
    cache.put_many({str(number): b"value" for number in range(1500)})
    cache.clear()
    assert cache.get_many(["0", "1499"]) == [None, None]
    assert client.mget(others) == [b"kept"] * len(others)
    assert client.dbsize() == len(others)
    client.delete(*others)
    cache.close()


def test_entries_expire(cache_url: str, client: Redis) -> None:
    """Every entry has the time to live that was asked for."""
    cache = RedisCache(cache_url, prefix="ttl:", ttl_seconds=777)
    cache.put_many({"a": b"1"})
    ttl = client.ttl("ttl:default:a")
    assert isinstance(ttl, int)
    assert 770 <= ttl <= 777
    cache.clear()
    cache.close()


def test_unreachable(tmp_path: Path) -> None:
    """Without its Redis the cache finds nothing, stores nothing, and says so once a minute; clearing alone fails."""
    clock = Clock()
    cache = RedisCache(f"redis+socket://:secret@{tmp_path}/none.sock?virtual_host=0", clock=clock)
    with captured_logs() as logs:
        for _ in range(30):
            assert cache.get_many(["a", "b"]) == [None, None]
            cache.put_many({"a": b"1"})
            clock.now += 1
        assert [log["level"] for log in logs] == ["warning"]
        assert "none.sock" in logs[0]["address"]
        assert "secret" not in str(logs)
        clock.now += 60
        cache.get_many(["a"])
        assert len(logs) == 2
    with pytest.raises(ServiceUnreachable, match=r"cache at .*none\.sock.* cannot be reached"):
        cache.clear()


def test_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes connections and never answers is given up after the timeout, and left alone for a while."""
    monkeypatch.setattr(redis_module, "_TIMEOUT_SECONDS", 0.1)
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        server.setblocking(False)
        cache = RedisCache(f"redis://127.0.0.1:{server.getsockname()[1]}/0", clock=clock)
        with captured_logs() as logs:
            for _ in range(50):
                assert cache.get_many(["a"]) == [None]
        assert len(logs) == 1
        assert _connections(server) == 1
        clock.now += 6
        cache.put_many({"a": b"1"})
        assert _connections(server) == 1


def _connections(server: socket.socket) -> int:
    """Take the connections that wait, and count them."""
    count = 0
    while True:
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_connections_that_broke(cache_url: str, client: Redis) -> None:
    """A connection that broke meanwhile, as when Redis restarts, costs nothing: the call is made on a new one."""
    cache = RedisCache(cache_url, prefix="broke:")
    cache.put_many({"a": b"1"})
    client.client_kill_filter(_type="normal", skipme=True)
    with captured_logs() as logs:
        assert cache.get_many(["a"]) == [b"1"]
        client.client_kill_filter(_type="normal", skipme=True)
        cache.put_many({"a": b"2"})
        assert cache.get_many(["a"]) == [b"2"]
    assert logs == []
    cache.clear()
    cache.close()


def test_full_server(cache_url: str, client: Redis) -> None:
    """A Redis that is full and may not evict stores nothing, and still answers; each answer is that to its question."""
    clock = Clock()
    cache = RedisCache(cache_url, prefix="full:", clock=clock)
    cache.put_many({"a": b"1"})
    before = {name: client.config_get(name)[name] or "" for name in ("maxmemory", "maxmemory-policy")}
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)
    try:
        with captured_logs() as logs:
            cache.put_many({"b": b"2", "c": b"3", "d": b"4"})
        clock.now += 600
        assert cache.get_many(["a", "b", "c"]) == [b"1", None, None]
        assert len(logs) == 1
    finally:
        for name, value in before.items():
            client.config_set(name, value)
    cache.clear()
    cache.close()


def test_no_cache() -> None:
    """The cache of a pipeline that wants none keeps nothing."""
    cache = NoCache()
    cache.put_many({"a": b"1"})
    assert cache.get_many(["a", "b"]) == [None, None]
    assert (cache.sizes(), cache.clear()) == ({}, 0)
    cache.close()


@pytest.mark.parametrize(
    "address", ["", "memory", "amqp://host//", "mysql://user:secret@host/cache", "sqlite://", "sqlite:///:memory:"]
)
def test_other_addresses(address: str) -> None:
    """An address of no cache is an error that names the address, and those that are allowed."""
    with pytest.raises(
        ConfigurationError, match=r"not the address of a cache; allowed are redis://.*memory://"
    ) as caught:
        open_cache(address)
    assert "secret" not in str(caught.value)


def test_addresses_that_cannot_be_read() -> None:
    """A port that is no number is an error when the cache is opened, not when it is asked."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        open_cache("postgresql://host:port/cache")
