"""The embedded Postgres: a data folder, and the server over it, on a Unix socket only."""

import os
import shutil
import signal
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable
from orchestrator.embedded.folders import closed_folder, make_private
from orchestrator.embedded.postgres_programs import postgres_programs
from orchestrator.embedded.processes import command_line, is_alive, log_tail, stop_process, wait_until
from orchestrator.embedded.system_user import SystemUser, system_user

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["PostgresServer"]

_DATABASE = "docmill"
_SUPERUSER = "postgres"  # the role inside the server, whatever the system user
_PORT = 5432  # names the socket, no more; said everywhere, or PGPORT of the environment would be taken
_START_SECONDS = 60.0  # recovery after a kill reads up to max_wal_size of log
_STOP_SECONDS = 30.0
_LAUNCHES = 3  # after kill -9, the backends of the old server may hold its shared memory for a moment
_RETRY_SECONDS = 0.5
_CONNECT_SECONDS = 5

_CONFIGURATION = """\
# Written by docmill at every start; settings of your own go below its include in postgresql.conf.

# The socket's folder is the only door, and only its owner opens it: so nobody is asked for a password.
listen_addresses = ''
port = {port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700

# Every worker process, command and commit holds a connection or two; the default of 100 ends near 30 workers.
max_connections = 200

# The ledger is the truth: these are the defaults, and they stay.
fsync = on
synchronous_commit = on

# Small, since embedding wants the memory; the page cache does the rest.
shared_buffers = 128MB
# An HNSW index is built ten times faster while it fits in here. Used by that alone.
maintenance_work_mem = 256MB
# A bulk load of vectors writes gigabytes: fewer checkpoints, and recovery still within a minute.
max_wal_size = 2GB
# Off: vectors do not compress, and the processor is what ingestion lacks.
wal_compression = off
# Containers give /dev/shm 64 MB, and systemd empties it when a user logs out; neither touches files.
dynamic_shared_memory_type = mmap

# The log is for what went wrong; a checkpoint did not.
log_checkpoints = off
timezone = 'UTC'
log_timezone = 'UTC'
"""


class PostgresServer:
    """A Postgres with its data in `<home>/postgres` and its socket in `<sockets>/postgres`.

    Whoever calls `start` and `stop` sees to it that no other process does at the same time.
    """

    def __init__(self, home: Path, sockets: Path) -> None:
        self.data = home / "postgres"
        self.log = self.data / "server.log"
        self._home = home
        self._sockets = sockets / "postgres"

    @property
    def url(self) -> str:
        """The address of the database `docmill`, for SQLAlchemy."""
        return f"postgresql+psycopg://{_SUPERUSER}@/{_DATABASE}?host={self._sockets}&port={_PORT}"

    @property
    def pid(self) -> int | None:
        """The server's process, ready or not; None if it does not run, whatever its pid file says."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        # Numbers are used again, most of all in containers: the one on file may be anybody by now.
        return pid if is_alive(pid) and f"-D {self.data}" in command_line(pid) else None

    def is_ready(self) -> bool:
        """Whether the server takes connections."""
        if not (self._sockets / f".s.PGSQL.{_PORT}").exists():
            return False
        from psycopg import OperationalError

        try:
            self._connect().close()
        except OperationalError:
            return False
        return True

    def start(self) -> None:
        """Start the server, with its data folder and database made where missing. One that runs is used.

        Raises:
            ConfigurationError: the programs are not installed, or the user that runs them cannot reach the home.
            ServiceUnreachable: the server did not come up; the message ends with its log.
        """
        if not self.is_ready():
            self._prepare()
            self._launch()
        with self._connect() as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE])
            if known.fetchone() is None:
                connection.execute(f"CREATE DATABASE {_DATABASE}")

    def stop(self) -> None:
        """End all sessions and stop the server; nothing happens if it does not run."""
        pid = self.pid
        if pid is not None:
            stop_process(pid, timeout=_STOP_SECONDS, ask=signal.SIGINT)  # "fast": does not wait for clients

    def _connect(self) -> "Connection":
        import psycopg

        return psycopg.connect(
            host=str(self._sockets),
            port=_PORT,
            user=_SUPERUSER,
            dbname="postgres",
            connect_timeout=_CONNECT_SECONDS,
            autocommit=True,
        )

    @cached_property
    def _user(self) -> SystemUser | None:
        return system_user()

    @cached_property
    def _programs(self) -> Path:
        return postgres_programs(self._home, self._user)

    def _prepare(self) -> None:
        owner = self._user or SystemUser(os.geteuid(), os.getegid())
        closed = closed_folder(self.data) if self._user else None
        if closed is not None:
            raise ConfigurationError(
                f"home {self._home} cannot be used as root: Postgres runs as another user, to whom {closed} is closed; "
                "set DOCMILL_HOME to a folder that all users may walk to, such as /var/lib/docmill"
            )
        make_private(self._sockets, *owner)
        if not self.data.exists():
            self._initialize(owner)
        if self.data.stat().st_uid != owner.uid:
            raise ConfigurationError(
                f"{self.data} belongs to user {self.data.stat().st_uid}, but Postgres would run as {owner.uid}: run "
                "docmill as the user who made it, or set DOCMILL_HOME to another folder"
            )
        settings = _CONFIGURATION.format(port=_PORT, sockets=self._sockets)
        path = self.data / "docmill.conf"
        path.write_text(settings)
        path.chmod(0o644)  # the folder is closed; the file may be root's

    def _initialize(self, owner: SystemUser) -> None:
        """Make the data folder under another name first: one that exists is then always whole."""
        unfinished = self.data.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        make_private(unfinished, *owner)
        arguments = ["-D", str(unfinished), "-U", _SUPERUSER, "--auth=trust", "--encoding=UTF8", "--no-instructions"]
        # Sorted by code point as Python does, the same on every machine; no locale need be installed.
        arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if sys.platform == "linux":
            arguments.append("--sync-method=syncfs")  # 0.7 s where file by file takes 1.7 s
        made = self._run("initdb", arguments)
        if made.returncode != 0:
            raise ServiceUnreachable("embedded Postgres", str(self.data), f"initdb failed: {made.stdout.strip()}")
        with (unfinished / "postgresql.conf").open("a") as configuration:
            configuration.write("include 'docmill.conf'\n")
        unfinished.rename(self.data)

    def _launch(self) -> None:
        said = ""
        for _ in range(_LAUNCHES):
            if self.pid is None:
                self._remove_stale_locks()
                wait = ["-w", "-t", str(int(_START_SECONDS))]
                said = self._run("pg_ctl", ["start", "-D", str(self.data), "-l", str(self.log), *wait]).stdout.strip()
            # One that runs may still be recovering, or shutting down on behalf of a command that was killed.
            wait_until(lambda: self.is_ready() or self.pid is None, _START_SECONDS)
            if wait_until(self.is_ready, _RETRY_SECONDS):
                return
        raise ServiceUnreachable("embedded Postgres", str(self._sockets), f"{said}; {log_tail(self.log)}")

    def _remove_stale_locks(self) -> None:
        """Postgres would take any process with the number in its lock for a server, a zombie too; `pid` knows better.

        Backends that outlive their server are still noticed, by its shared memory.
        """
        (self._sockets / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _run(self, program: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a program as its user, with nothing of our environment but what loaders need."""
        kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
        environment = {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}
        command = [str(self._programs / program), *arguments]
        user = self._user
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            env=environment,
            umask=0o077,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
