"""The deployment of one trial: servers of its own, supervised workers, and a client in this process."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from sqlalchemy import make_url

from orchestrator.connections import Connections
from orchestrator.contracts.addresses import redis_client_url
from orchestrator.embedded.folders import make_home, make_socket_folder
from orchestrator.embedded.postgres import PostgresServer
from orchestrator.embedded.processes import is_alive, wait_until
from orchestrator.embedded.redis import RedisServer
from orchestrator.ledger.migrate import upgrade
from orchestrator.pipeline import IngestionPipeline
from orchestrator.settings import Settings, load_settings
from tests.chaos.proxy import Proxy
from tests.chaos.workers import WorkerProcess
from tests.rabbitmq import RabbitServer
from tests.services import Services, kill_servers
from tests.transformations import Slow
from workers.transformations import Embed, SentenceSplitter

__all__ = ["COLLECTION", "Stack", "pipeline"]

COLLECTION = "chaos"
_WITHOUT_AOF = (("--save", ""), ("--appendonly", "no"), ("--maxmemory-policy", "noeviction"))
_SECONDS = 30.0


class Stack:
    """Servers, workers and client. A context manager: at its end every process is gone, and every file.

    Args:
        services: holds the folder, and sweeps it should this process be killed.
        rabbitmq: the broker; None: the Redis.
        aof: whether the Redis writes a log that survives kill -9.
        disk_bytes: size of the database's disk; None: that of the machine.
        proxied: workers reach broker and database over a network that can be cut.
    """

    def __init__(
        self,
        services: Services,
        rabbitmq: RabbitServer | None,
        *,
        aof: bool = True,
        disk_bytes: int | None = None,
        proxied: bool = False,
    ) -> None:
        self.rabbitmq = rabbitmq
        self.workers: list[WorkerProcess] = []
        self.home = services.new_home("trial")
        self.disk = services.new_home("disk") if disk_bytes else None
        self._disk_bytes = disk_bytes
        self._aof = aof
        self._proxied = proxied
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self._start_servers(opening)
            self.settings = self._settings(
                self.postgres.url,
                self.rabbitmq.url if self.rabbitmq else self.redis.url(0),
                self.redis.url(1),
            )
            self.worker_settings = self._behind_proxies(opening) if self._proxied else self.settings
            self.connections = Connections(self.settings)
            opening.callback(self.connections.close)
            upgrade(self.connections.engine)
            self._empty_queues()
            opening.callback(self._stop_workers)
            self._opened = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.close()

    def _start_servers(self, opening: ExitStack) -> None:
        make_home(self.home)
        opening.callback(kill_servers, self.home)
        database_home = self.home
        if self.disk is not None:
            database_home = self.disk
            make_home(self.disk)
            options = f"size={self._disk_bytes},mode=711"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.disk)], check=True)
            opening.callback(self._unmount, self.disk)
            opening.callback(kill_servers, self.disk)
        sockets = make_socket_folder(self.home)
        self.postgres = PostgresServer(database_home, make_socket_folder(database_home))
        self.redis = (
            RedisServer.for_broker(self.home, sockets)
            if self._aof
            else RedisServer("redis", self.home, sockets, _WITHOUT_AOF)
        )
        self.cache = RedisServer.for_cache(self.home, sockets)
        for server in (self.redis, self.cache, self.postgres):
            server.start()

    @staticmethod
    def _unmount(disk: Path) -> None:
        subprocess.run(["umount", str(disk)], check=False)
        shutil.rmtree(disk, ignore_errors=True)

    def _settings(self, database: str, broker: str, results: str) -> Settings:
        """Everything as it is by default, but for batches so small that there are many."""
        return load_settings(
            database_url=database,
            broker_url=broker,
            result_url=results,
            cache_url=self.cache.url(0),
            home=self.home,
            batch_bytes=16 * 1024,
            modules="tests.transformations",
        )

    def _behind_proxies(self, opening: ExitStack) -> Settings:
        """The same settings, with every server behind a proxy on TCP; the cache stays where it is."""
        database = make_url(self.postgres.url)
        self.database_link = Proxy(partial(_connect_unix, f"{database.query['host']}/.s.PGSQL.5432"))
        self.results_link = Proxy(partial(_connect_unix, str(self.redis.socket)))
        links = [self.database_link, self.results_link]
        broker = f"redis://127.0.0.1:{self.results_link.port}/0"
        self.broker_links = [self.results_link]
        if self.rabbitmq is not None:
            link = Proxy(partial(socket.create_connection, ("127.0.0.1", self.rabbitmq.port)))
            broker = RabbitServer.url_at(link.port)
            self.broker_links = [link]
            links.append(link)
        for link in links:
            opening.callback(link.close)
        return self._settings(
            database.set(host="127.0.0.1", port=self.database_link.port, query={}).render_as_string(),
            broker,
            f"redis://127.0.0.1:{self.results_link.port}/1",
        )

    def _empty_queues(self) -> None:
        """A RabbitMQ serves many trials, a Redis one."""
        if self.rabbitmq is not None:
            with self.connections.app.connection_for_write() as connection:
                for queue in self.connections.app.amqp.queues.values():
                    bound = queue.bind(connection.default_channel)
                    bound.declare()
                    bound.purge()

    def start_worker(self, environment: Mapping[str, str] | None = None, *, concurrency: int = 2) -> WorkerProcess:
        """One more worker under a supervisor of its own."""
        logs = self.home / f"logs{len(self.workers)}"
        worker = WorkerProcess(self.worker_settings, logs, concurrency=concurrency, environment=environment)
        self.workers.append(worker)
        return worker

    def wait_for_workers(self) -> None:
        """Until every worker has its children, and so can be hurt."""
        for worker in self.workers:
            if not wait_until(lambda worker=worker: len(worker.children) >= 2, _SECONDS):  # type: ignore[misc]
                raise RuntimeError(f"a worker did not start:\n{worker.log()}")

    def _stop_workers(self) -> None:
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.supervisor.stop(timeout=5.0)

    def pipeline(self, seconds: float) -> IngestionPipeline:
        """The pipeline of every trial, from this process."""
        return pipeline(self.connections, seconds)

    def flush_redis(self) -> None:
        """FLUSHALL."""
        with Redis.from_url(redis_client_url(self.redis.url(0))) as client:
            client.flushall()

    def kill_redis(self) -> None:
        """kill -9 for the Redis of broker and results."""
        _kill(self.redis.pid, signal.SIGKILL)

    def stop_postgres_immediately(self) -> None:
        """`pg_ctl stop -m immediate`: no checkpoint, every session broken; recovers from its log."""
        _kill(self.postgres.pid, signal.SIGQUIT)

    def kill_postgres(self) -> None:
        """kill -9 for the postmaster; its backends notice and go."""
        _kill(self.postgres.pid, signal.SIGKILL)


def pipeline(connections: Connections, seconds: float) -> IngestionPipeline:
    """The pipeline of every trial; a document takes so long."""
    return IngestionPipeline(
        COLLECTION,
        [Slow(seconds=seconds), SentenceSplitter(chunk_size=128, chunk_overlap=16), Embed("hashed")],
        vector_store="pgvector",
        connections=connections,
    )


def _kill(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        wait_until(lambda: not is_alive(pid), _SECONDS)


def _connect_unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    return connection
