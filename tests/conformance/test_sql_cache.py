"""What a cache in SQL promises beyond what every cache does, held against SQLite and Postgres."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text

from orchestrator.contracts.addresses import sqlalchemy_url
from orchestrator.contracts.errors import ServiceUnreachable
from tests.logs import captured_logs
from workers.caches import CacheSize, SqlCache, open_cache

_DAY = 24 * 3600.0


class Clock:
    """Seconds since 1970, that grow when told to."""

    def __init__(self) -> None:
        self.now = 1.8e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["sqlite", "postgresql"])
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of each database, with an empty cache in it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'cache.sqlite'}"
        return
    url: str = request.getfixturevalue("postgres_url")
    yield url
    cache = SqlCache(url)
    cache.clear()
    cache.close()


def test_sql_is_durable_and_shared(sql_url: str) -> None:
    """What one process stored another finds, also later, and many may make the table at once."""

    def put(number: int) -> None:
        cache = SqlCache(sql_url)
        cache.put_many({f"{number}-{index}": b"value" for index in range(50)})
        cache.close()

    with captured_logs() as logs, ThreadPoolExecutor(6) as threads:
        list(threads.map(put, range(6)))
    assert logs == []
    cache = SqlCache(sql_url)
    assert cache.sizes() == {"default": CacheSize(300, 1500)}
    assert cache.get_many(["0-0", "5-49", "6-0"]) == [b"value", b"value", None]
    cache.close()


def test_sql_loses_nothing_when_another_makes_the_table_first(sql_url: str) -> None:
    """A worker that is about to make the table, while another makes it, stores all the same what it was to store."""
    _drop_tables(sql_url)
    first, others = SqlCache(sql_url), [SqlCache(sql_url)]

    def overtake(_: Connection, __: Any, statement: str, *___: Any) -> None:
        if statement.strip().startswith("CREATE TABLE") and others:
            cache = others.pop()
            cache.put_many({"second": b"value"})
            cache.close()

    event.listen(Engine, "before_cursor_execute", overtake)
    try:
        with captured_logs() as logs:
            first.put_many({"first": b"value"})
    finally:
        event.remove(Engine, "before_cursor_execute", overtake)
    assert (logs, others) == ([], [])
    assert first.get_many(["first", "second"]) == [b"value", b"value"]
    first.close()


def _drop_tables(url: str) -> None:
    engine = create_engine(sqlalchemy_url(url))
    with engine.begin() as connection:
        for table in ("docmill_ingestion_cache", "docmill_ingestion_cache_claims"):
            connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
    engine.dispose()


def test_sql_entries_live_after_their_last_use(sql_url: str) -> None:
    """An entry that nobody stored or looked up for its time to live is gone; one that was looked up is not."""
    clock = Clock()
    cache = SqlCache(sql_url, ttl_seconds=30 * _DAY, max_bytes=1000, clock=clock)
    cache.put_many({"used": b"1", "forgotten": b"2"})
    clock.now += 20 * _DAY
    assert cache.get_many(["used"]) == [b"1"]
    clock.now += 15 * _DAY
    assert cache.get_many(["used", "forgotten"]) == [b"1", None]
    assert cache.sizes() == {"default": CacheSize(1, 1)}
    cache.put_many({"new": bytes(500)})  # enough to prune
    clock.now -= 15 * _DAY
    assert cache.get_many(["forgotten"]) == [None]
    cache.close()


def test_sql_forgets_the_least_recently_used(sql_url: str) -> None:
    """Past its bound a cache in SQL forgets what was not asked for the longest, from all collections alike."""
    hour = 3601.0
    clock = Clock()
    cache = SqlCache(sql_url, max_bytes=1000, clock=clock)
    for number in range(10):
        cache.put_many({str(number): bytes(100)}, "odd" if number % 2 else "even")
        clock.now += hour
    assert sum(size.bytes for size in cache.sizes().values()) == 1000
    assert cache.get_many(["0"], "even") == [bytes(100)]
    clock.now += hour
    cache.put_many({"x": bytes(100)}, "even")
    assert sum(size.bytes for size in cache.sizes().values()) == 900
    assert cache.get_many(["0", "2", "4", "x"], "even") == [bytes(100), None, bytes(100), bytes(100)]
    assert cache.get_many(["1", "3"], "odd") == [None, bytes(100)]
    cache.close()


def test_sql_asks_once_a_call(sql_url: str) -> None:
    """However many keys there are, a look-up is one statement, and so is storing."""
    cache = SqlCache(sql_url)
    cache.put_many({"first": b"1"})  # makes the table, and prunes
    values = {f"key-{number}": b"value" for number in range(2000)}
    with _statements() as sent:
        cache.put_many(values)
        assert len(sent) == 1
        assert cache.get_many(list(values)) == list(values.values())
        assert len(sent) == 2
    cache.close()


@contextmanager
def _statements() -> Iterator[list[str]]:
    sent: list[str] = []

    def listen(_: Connection, __: Any, statement: str, *___: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", listen)


def test_sql_many_writers_at_once(sql_url: str) -> None:
    """Many who store, look up and prune the same entries at once do not stop each other, and keep to the bound."""
    caches = [SqlCache(sql_url, max_bytes=20_000) for _ in range(4)]
    keys = [f"key-{number}" for number in range(100)]

    def work(number: int) -> int:
        cache = caches[number % len(caches)]
        order = keys[number:] + keys[:number]
        cache.put_many({key: bytes(300) for key in order})
        return sum(1 for value in cache.get_many(order) if value not in (None, bytes(300)))

    with captured_logs() as logs, ThreadPoolExecutor(4) as threads:
        assert set(threads.map(work, range(40))) == {0}
    assert logs == []
    caches[0].put_many({"last": bytes(300)})
    assert sum(size.bytes for size in caches[0].sizes().values()) <= 20_000
    for cache in caches:
        cache.close()


@pytest.mark.parametrize(
    "address", ["sqlite:////no/such/folder/cache.sqlite", "postgresql://user:secret@127.0.0.1:1/cache"]
)
def test_sql_unreachable(address: str) -> None:
    """Without its database a cache finds nothing, stores nothing, and says so once; asking for its size fails."""
    cache = open_cache(address)
    with captured_logs() as logs:
        for _ in range(5):
            assert cache.get_many(["a", "b"]) == [None, None]
            cache.put_many({"a": b"1"})
    assert [log["level"] for log in logs] == ["warning"]
    for act in (cache.sizes, cache.clear):
        with pytest.raises(ServiceUnreachable, match="cannot be reached") as caught:
            act()
        assert "secret" not in str(caught.value) + str(logs)
    cache.close()


def test_sql_refuses_what_is_no_cache(tmp_path: Path) -> None:
    """A file that is no database, or a table that is another, costs hits and nothing else."""
    file = tmp_path / "cache.sqlite"
    file.write_bytes(b"this is no database, and too long to be an empty one" * 100)
    cache = open_cache(f"sqlite:///{file}")
    with captured_logs() as logs:
        cache.put_many({"a": b"1"})
        assert cache.get_many(["a"]) == [None]
    assert "not a database" in logs[0]["error"]
    with pytest.raises(ServiceUnreachable, match="not a database"):
        cache.sizes()
