"""A durable cache in SQL: a table of its own on Postgres or SQLite, with a time to live and a bound on its bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from threading import Lock
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Double,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    make_url,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from orchestrator.contracts.addresses import redacted, sqlalchemy_url
from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable
from orchestrator.ledger.binary_results import IN_BINARY, offer_binary_results
from orchestrator.ledger.sqlite_wal import switch_to_wal
from workers.caches.contract import DEFAULT_CACHE_COLLECTION, CacheSize
from workers.caches.outage import Outage

__all__ = ["SQL_BYTES", "SqlCache"]

SQL_BYTES = 1024**3  # bound where none is given
_KEPT_SHARE = 0.9  # of the bound, after pruning: or each put would prune
_PRUNE_SHARE = 0.01  # of the bound: after so many new bytes a process looks whether there are too many
_PAGE_ROWS = 1000  # removed in one transaction, so that no writer waits long
_TOUCH_SECONDS = 3600.0  # how exactly the last use is known; finer, and every look-up would write
_KEYS_A_STATEMENT = 10_000  # SQLite takes 32,766 values, Postgres 65,535
_TIMEOUT_SECONDS = 5
_TOLERATED = (DBAPIError, PoolTimeout)
# What says that another process makes the tables at the same moment: there is one already, or SQLite is locked. On
# Postgres, an OperationalError says that nobody answers.
_TRIES = 5
_OVERTAKEN = {"sqlite": (OperationalError,), "postgresql": (IntegrityError, ProgrammingError)}

_metadata = MetaData()
_entries = Table(
    "docmill_ingestion_cache",
    _metadata,
    Column("collection", String(63), primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),  # bytes of the value
    Column("used_at", Double, nullable=False),  # seconds since 1970, of the last write or, about, the last look-up
)
# Who is working out what is not there yet. Rows of processes that died are overwritten when somebody wants the same.
_claims = Table(
    "docmill_ingestion_cache_claims",
    _metadata,
    Column("collection", String(63), primary_key=True),
    Column("key", String, primary_key=True),
    Column("until", Double, nullable=False),  # seconds since 1970
)
# Holds all that pruning and statistics ask for: neither reads a value.
Index("ix_docmill_ingestion_cache_used_at", _entries.c.used_at, _entries.c.size, _entries.c.collection)
_name = tuple_(_entries.c.collection, _entries.c.key)


class SqlCache:
    """Bytes by collection and key in one table, which is made where it is missing.

    A database that does not answer, or refuses, costs hits and nothing else, as with `RedisCache`.

    Args:
        url: `postgresql://…`, or `sqlite:///PATH` for the processes of one machine. It may be the ledger's database.
        ttl_seconds: an entry that was neither written nor looked up for so long is forgotten; about, by an hour at
            most.
        max_bytes: bound on the values of all collections; past it the least recently used are forgotten.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: the address is of neither.
    """

    def __init__(
        self,
        url: str,
        ttl_seconds: float = 30 * 24 * 3600,
        max_bytes: int = SQL_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = sqlalchemy_url(url)
        self._ttl_seconds = ttl_seconds
        self._max_bytes = max_bytes
        self._clock = clock
        self._outage = Outage(url)
        self._lock = Lock()
        self._new_bytes: float = max_bytes  # the first put of a process looks at once
        self._is_sqlite = self._url.startswith("sqlite:")
        if not self._url.startswith(("postgresql+psycopg:", "sqlite:///")):
            raise ConfigurationError(f"{redacted(url)!r} holds no cache; allowed are postgresql://… and sqlite:///PATH")
        try:
            make_url(self._url)
        except (ArgumentError, ValueError) as error:  # a port that is no number is a ValueError
            raise ConfigurationError(f"the cache's address {redacted(url)!r} cannot be read") from error

    def get_many(self, keys: Sequence[str], collection: str = DEFAULT_CACHE_COLLECTION) -> list[bytes | None]:
        """The values in the order of the keys; None where there is none, and for all if the database fails."""
        if not keys or self._outage.lasts:
            return [None] * len(keys)
        now = self._clock()
        query = select(_entries.c.key, _entries.c.value, _entries.c.used_at).execution_options(**IN_BINARY)
        found: dict[str, bytes] = {}
        fading: list[str] = []
        with self._tolerated(), self._engine.begin() as connection:
            for start in range(0, len(keys), _KEYS_A_STATEMENT):
                asked = _of(collection, keys[start : start + _KEYS_A_STATEMENT])
                for key, value, used_at in connection.execute(query.where(asked, _entries.c.used_at > self._oldest)):
                    found[key] = bytes(value)
                    if used_at < now - _TOUCH_SECONDS:
                        fading.append(key)
        if fading:
            self._touch(collection, fading, now)
        return [found.get(key) for key in keys]

    def put_many(self, values: Mapping[str, bytes], collection: str = DEFAULT_CACHE_COLLECTION) -> None:
        """Store all values; nothing happens if the database fails."""
        if not values or self._outage.lasts:
            return
        now = self._clock()
        # In the order of the keys, so that two who write the same wait for each other and never in a circle.
        rows = [
            {"collection": collection, "key": key, "value": values[key], "size": len(values[key]), "used_at": now}
            for key in sorted(values)
        ]
        with self._tolerated():
            with self._engine.begin() as connection:
                connection.execute(self._upsert, rows)
            if self._is_time_to_prune(sum(len(value) for value in values.values())):
                self._prune()

    def claim_many(self, keys: Sequence[str], seconds: float, collection: str = DEFAULT_CACHE_COLLECTION) -> list[str]:
        """Those of the keys that nobody else has claimed; all, if the database fails."""
        if not keys or self._outage.lasts:
            return list(keys)
        now = self._clock()
        insert = sqlite.insert(_claims) if self._is_sqlite else postgresql.insert(_claims)
        claim = insert.on_conflict_do_update(
            index_elements=["collection", "key"], set_={"until": insert.excluded.until}, where=_claims.c.until < now
        ).returning(_claims.c.key)
        rows = [{"collection": collection, "key": key, "until": now + seconds} for key in sorted(set(keys))]
        with self._tolerated(), self._engine.begin() as connection:
            ours = set(connection.execute(claim, rows).scalars())
            return [key for key in keys if key in ours]
        return list(keys)

    def release_many(self, keys: Sequence[str], collection: str = DEFAULT_CACHE_COLLECTION) -> None:
        """Give up claims; if the database fails, they run out."""
        if not keys or self._outage.lasts:
            return
        with self._tolerated(), self._engine.begin() as connection:
            for start in range(0, len(keys), _KEYS_A_STATEMENT):
                some = _claims.c.key.in_(keys[start : start + _KEYS_A_STATEMENT])
                connection.execute(delete(_claims).where(_claims.c.collection == collection, some))

    def clear(self, collection: str | None = None) -> int:
        """Forget a collection, or everything; returns how many entries that were.

        Raises:
            ServiceUnreachable: the database does not answer, or refuses.
        """
        with self._needed():
            return self._remove(true() if collection is None else _entries.c.collection == collection)

    def sizes(self) -> dict[str, CacheSize]:
        """{collection: size} of the collections that hold something.

        Raises:
            ServiceUnreachable: the database does not answer, or refuses.
        """
        column = _entries.c.collection
        query = select(column, func.count(), func.sum(_entries.c.size)).group_by(column)
        with self._needed(), self._engine.begin() as connection:
            rows = connection.execute(query.where(_entries.c.used_at > self._oldest)).all()
        return {collection: CacheSize(count, int(held)) for collection, count, held in rows}

    def close(self) -> None:
        """Let go of the connections."""
        engine = self.__dict__.pop("_engine", None)
        if engine is not None:
            engine.dispose()

    @property
    def _oldest(self) -> float:
        """Entries last used at this moment or before have had their time."""
        return self._clock() - self._ttl_seconds

    @cached_property
    def _engine(self) -> Engine:
        engine = self._connect()
        overtaken = _OVERTAKEN["sqlite" if self._is_sqlite else "postgresql"]
        for _ in range(_TRIES - 1):
            try:
                _metadata.create_all(engine)
                return engine
            except overtaken:
                continue
        _metadata.create_all(engine)
        return engine

    def _connect(self) -> Engine:
        if not self._is_sqlite:
            options = {"connect_timeout": _TIMEOUT_SECONDS, "application_name": "docmill cache"}
            engine = create_engine(self._url, pool_pre_ping=True, pool_size=2, connect_args=options)
            offer_binary_results(engine)
            return engine
        engine = create_engine(self._url, connect_args={"timeout": _TIMEOUT_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        return engine

    @cached_property
    def _upsert(self) -> Any:
        insert = sqlite.insert(_entries) if self._is_sqlite else postgresql.insert(_entries)
        changed = {name: insert.excluded[name] for name in ("value", "size", "used_at")}
        return insert.on_conflict_do_update(index_elements=["collection", "key"], set_=changed)

    def _touch(self, collection: str, keys: Sequence[str], now: float) -> None:
        """Note that entries were looked up; those that somebody else writes just now need no note."""
        with self._tolerated(), self._engine.begin() as connection:
            for start in range(0, len(keys), _KEYS_A_STATEMENT):
                free = select(*_name.clauses).where(_of(collection, keys[start : start + _KEYS_A_STATEMENT]))
                free = free.with_for_update(skip_locked=True)
                connection.execute(update(_entries).where(_name.in_(free)).values(used_at=now))

    def _is_time_to_prune(self, written: int) -> bool:
        with self._lock:
            self._new_bytes += written
            is_time = self._new_bytes >= self._max_bytes * _PRUNE_SHARE
            if is_time:
                self._new_bytes = 0
            return is_time

    def _prune(self) -> None:
        """Forget what had its time and, past the bound, what was used least recently.

        What goes is what was last used at some moment or before. Two who prune at once find the same moment, and do
        not remove twice as much.
        """
        used_at, size = _entries.c.used_at, _entries.c.size
        kept = select(used_at, func.sum(size).over(order_by=used_at.desc()).label("bytes")).subquery()
        newest_to_go = select(func.max(kept.c.used_at)).where(kept.c.bytes > int(self._max_bytes * _KEPT_SHARE))
        moment = self._oldest
        with self._engine.begin() as connection:
            if (connection.execute(select(func.sum(size))).scalar() or 0) > self._max_bytes:
                found = connection.execute(newest_to_go).scalar_one()
                moment = moment if found is None else max(moment, found)  # None: another has pruned meanwhile
        self._remove(used_at <= moment)

    def _remove(self, condition: ColumnElement[bool]) -> int:
        """Remove entries page by page; returns how many. Entries that somebody writes just now stay."""
        removed = 0
        page = select(*_name.clauses).where(condition).limit(_PAGE_ROWS)
        statement = delete(_entries).where(_name.in_(page.with_for_update(skip_locked=True)))
        while True:
            with self._engine.begin() as connection:
                count = connection.execute(statement).rowcount
            removed += count
            if count < _PAGE_ROWS:
                return removed

    @contextmanager
    def _tolerated(self) -> Iterator[None]:
        """A block that may fail for the database's reasons: one then goes without the cache for a while."""
        try:
            yield
        except _TOLERATED as error:
            self._outage.begin(error)

    @contextmanager
    def _needed(self) -> Iterator[None]:
        """A block that makes no sense without the database."""
        try:
            yield
        except _TOLERATED as error:
            reason = str(error).strip().partition("\n")[0]
            raise ServiceUnreachable("cache", redacted(self._url), reason) from error


def _of(collection: str, keys: Sequence[str]) -> ColumnElement[bool]:
    return (_entries.c.collection == collection) & _entries.c.key.in_(keys)


def _prepare_sqlite(connection: Any, record: Any) -> None:
    switch_to_wal(connection, _TIMEOUT_SECONDS)
    # A crash may lose the last entries, and costs no more than paying for them again.
    connection.execute("PRAGMA synchronous = NORMAL")
