"""The embedded stack: a Postgres and two Redis-protocol servers for as long as any command uses them.

Who uses it is counted by shared locks, which the kernel releases however a process ends. The last to leave stops the
servers. What a killed process left running is used by the next command, and stopped at its end.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

from orchestrator.embedded.folders import make_home, make_socket_folder, resolved
from orchestrator.embedded.locks import FileLock
from orchestrator.embedded.postgres import PostgresServer
from orchestrator.embedded.redis import RedisServer

__all__ = ["Addresses", "EmbeddedStack"]


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers are: the database as SQLAlchemy writes it, the others as Celery does."""

    database_url: str
    broker_url: str
    result_url: str
    cache_url: str


class EmbeddedStack:
    """One process's share in the servers of a home. A context manager that gives the addresses.

    Processes that this one forks do not count: they must be gone before it leaves, or use a stack of their own.
    """

    def __init__(self, home: Path) -> None:
        self.home = resolved(home)
        self._change = FileLock(self.home / "change.lock")  # held while servers start and stop
        self._use = FileLock(self.home / "use.lock")  # shared by all who use them

    def __enter__(self) -> Addresses:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Addresses:
        """Use the stack: start the servers that do not run, and keep all of them until `stop`. Twice is once.

        Raises:
            ConfigurationError: the home cannot be used, or the servers are not installed.
            ServiceUnreachable: a server did not come up; the message ends with its log.
        """
        if not self._use.is_held:
            make_home(self.home)
            with self._change.exclusively():
                self._use.acquire(shared=True)
                try:
                    self._servers.start()
                except BaseException:
                    self._leave()
                    raise
        return self._servers.addresses

    def stop(self) -> None:
        """Leave the stack; the last to leave stops the servers. Nothing happens if this object does not use it."""
        if self._use.is_held:
            with self._change.exclusively():
                self._leave()

    def stop_unused(self) -> bool:
        """Stop servers that nobody uses, left behind by a process that was killed. True if there were any."""
        if not self.home.is_dir() or self._use.is_held:
            return False
        with self._change.exclusively():
            running = self._servers.any_alive()
            return self._leave() and running

    def is_running(self) -> bool:
        """All servers take connections."""
        return self.home.is_dir() and self._servers.all_ready()

    def is_used(self) -> bool:
        """Some process, this one included, uses the stack."""
        if self._use.is_held:
            return True
        if not self.home.is_dir():
            return False
        probe = FileLock(self._use.path)
        with self._change.exclusively():
            free = probe.acquire(wait=False)
            probe.release()
        return not free

    def _leave(self) -> bool:
        """Stop the servers if nobody else uses them. True if so."""
        is_last = self._use.acquire(wait=False)
        try:
            if is_last:
                self._servers.stop()
        finally:
            self._use.release()
        return is_last

    @cached_property
    def _servers(self) -> "_Servers":
        sockets = make_socket_folder(self.home)
        return _Servers(
            PostgresServer(self.home, sockets),
            RedisServer.for_broker(self.home, sockets),
            RedisServer.for_cache(self.home, sockets),
        )


@dataclass(frozen=True, slots=True)
class _Servers:
    postgres: PostgresServer
    broker: RedisServer
    cache: RedisServer

    @property
    def addresses(self) -> Addresses:
        return Addresses(
            database_url=self.postgres.url,
            broker_url=self.broker.url(0),
            result_url=self.broker.url(1),
            cache_url=self.cache.url(0),
        )

    def start(self) -> None:
        # Postgres takes longest: the others come up meanwhile.
        self.broker.launch()
        self.cache.launch()
        self.postgres.start()
        self.broker.wait_ready()
        self.cache.wait_ready()

    def stop(self) -> None:
        # Each one, whatever becomes of the others.
        with ExitStack() as stack:
            stack.callback(self.postgres.stop)
            stack.callback(self.broker.stop)
            stack.callback(self.cache.stop)

    def all_ready(self) -> bool:
        return self.postgres.is_ready() and self.broker.is_ready() and self.cache.is_ready()

    def any_alive(self) -> bool:
        return any(server.pid is not None for server in (self.postgres, self.broker, self.cache))
