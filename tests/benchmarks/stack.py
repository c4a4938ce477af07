"""The servers of a run, kept up through all rounds, and an empty database for each turn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from redis import Redis
from sqlalchemy import make_url

from orchestrator import Document
from orchestrator.contracts.addresses import redis_client_url
from orchestrator.embedded.redis import RedisServer
from orchestrator.settings import Settings, load_settings
from tests.benchmarks.programs.protocol import DIMENSION
from tests.deployment import Deployment
from tests.services import Services

__all__ = ["Database", "Stack", "warm_deployment"]

_WARM_UP = 48  # documents of a batch each: enough for every worker process to get some
_WARM_UP_TEXT = "A document that warms the workers up. " * 2000
_NO_INDEX = 10**9  # rows: none of the subjects builds a vector index


class Database:
    """One database on the run's Postgres."""

    def __init__(self, url: str) -> None:
        self.url = url  # as SQLAlchemy writes it

    @property
    def address(self) -> str:
        """As libpq writes it."""
        return make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with psycopg.connect(self.address) as connection:
            return connection.execute(query.encode()).fetchall()


class Stack:
    """Postgres and the two Redis servers, as the embedded stack starts them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        for server in (services.postgres, services.redis, services.cache):
            assert server.pid is not None

    @property
    def postgres_pid(self) -> int:
        return _running(self._services.postgres.pid)

    @property
    def redis_pids(self) -> list[int]:
        return [_running(self._services.redis.pid), _running(self._services.cache.pid)]

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A new database, dropped at the end."""
        name = f"bench_{uuid4().hex[:12]}"
        url = make_url(self._services.postgres.url)
        server = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
            try:
                yield Database(url.set(database=name).render_as_string(hide_password=False))
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def checkpoint(self) -> None:
        """Have Postgres write what it holds back, so that no subject pays for the one before."""
        server = make_url(self._services.postgres.url).set(drivername="postgresql")
        with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    def settings(self, database: Database, home: Path) -> Settings:
        """docmill's settings for a database of this stack."""
        return load_settings(
            database_url=database.url,
            broker_url=self._services.redis.url(0),
            result_url=self._services.redis.url(1),
            cache_url=self._services.cache.url(0),
            home=home,
            hnsw_rows=_NO_INDEX,
        )

    def fresh_redis(self) -> None:
        """Empty both servers and start them anew: the peaks that they know of begin at nothing."""
        for server, client in self._clients():
            client.flushall()
            server.stop()
            server.start()

    def redis_peaks(self) -> dict[str, int]:
        """The most memory that each server held since it was started, in bytes, by its own count."""
        return {
            name: int(client.info("memory")["used_memory_peak"])
            for name, (_, client) in zip(("redis", "cache"), self._clients(), strict=True)
        }

    def _clients(self) -> Iterator[tuple[RedisServer, Redis]]:
        for server in (self._services.redis, self._services.cache):
            with Redis.from_url(redis_client_url(server.url(0))) as client:
                yield server, client


@contextmanager
def warm_deployment(
    settings: Settings, folder: Path, workers: int, python: Path = Path(sys.executable)
) -> Iterator[Deployment]:
    """docmill's workers, run by this Python, all of which have already worked."""
    folder.mkdir(parents=True, exist_ok=True)
    deployment = Deployment(settings, folder, python=python)
    try:
        deployment.start_worker(workers)
        pipeline = deployment.pipeline("warm-up", embedder=f"constant/{DIMENSION}")
        job = pipeline.enqueue(Document(id=str(number), text=f"{number} {_WARM_UP_TEXT}") for number in range(_WARM_UP))
        deployment.wait(job)
        yield deployment
    finally:
        deployment.close()


def _running(pid: int | None) -> int:
    assert pid is not None, "a server of the benchmark has gone"
    return pid
