"""The real services of the tests: each started at first use, all stopped at the end, however the tests end.

`python -m tests.services FOLDER` is the sweeper: it waits until its standard input closes, which the death of the test
process does too, then stops every server whose home is in the folder, and removes the folder.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import NoReturn, TypeVar
from uuid import uuid4

import pytest

from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable
from orchestrator.embedded.folders import make_home, make_socket_folder
from orchestrator.embedded.postgres import PostgresServer
from orchestrator.embedded.processes import stop_process
from orchestrator.embedded.redis import RedisServer
from tests.rabbitmq import RabbitServer
from tests.tls import Certificate, make_certificate

__all__ = ["Services", "kill_servers", "missing"]

_Server = TypeVar("_Server", PostgresServer, RedisServer, RabbitServer)

_ROOT = Path(__file__).parent.parent
_SWEEP_SECONDS = 60.0
_STOP_SECONDS = 10.0


def missing(service: str, reason: object) -> NoReturn:
    """A service is not there: skip the test at home, fail it in CI."""
    message = f"{service} is missing: {reason}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def kill_servers(home: Path) -> None:
    """Kill the servers of a home, whoever uses them, and remove the home: nothing is worth saving."""
    RabbitServer.kill_left_behind(home / "rabbitmq")
    sockets = make_socket_folder(home)
    pids = {
        PostgresServer(home, sockets).pid: signal.SIGQUIT,  # by itself it would leave its children a while
        RedisServer.for_broker(home, sockets).pid: signal.SIGKILL,
        RedisServer.for_cache(home, sockets).pid: signal.SIGKILL,
    }
    for pid, how in pids.items():
        if pid is not None:
            stop_process(pid, timeout=_STOP_SECONDS, ask=how)
    shutil.rmtree(sockets)
    shutil.rmtree(home, ignore_errors=True)


class Services:
    """Servers in a folder of their own, whose path is short and which the user of Postgres can reach."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="docmill-", dir="/tmp")).resolve()  # short
        self.folder.chmod(0o711)
        self._sweeper = subprocess.Popen(
            [sys.executable, "-m", "tests.services", str(self.folder)],
            stdin=subprocess.PIPE,
            cwd=_ROOT,
            start_new_session=True,  # Ctrl-C is for the tests; this cleans up after them
        )

    def close(self) -> None:
        """Stop everything and remove the folder."""
        assert self._sweeper.stdin is not None
        self._sweeper.stdin.close()
        assert self._sweeper.wait(_SWEEP_SECONDS) == 0, "servers of the tests could not be stopped"

    def new_home(self, name: str) -> Path:
        """A path for the home of a stack, swept like the rest; the folder is not made yet."""
        return self.folder / f"{name}-{uuid4().hex[:8]}"

    @cached_property
    def postgres(self) -> PostgresServer:
        """A Postgres that runs."""
        return _started(PostgresServer(self._home, self._sockets))

    @cached_property
    def redis(self) -> RedisServer:
        """A Redis for broker and results, that runs."""
        return _started(RedisServer.for_broker(self._home, self._sockets))

    @cached_property
    def cache(self) -> RedisServer:
        """A Redis for the cache, that runs."""
        return _started(RedisServer.for_cache(self._home, self._sockets))

    @cached_property
    def rabbitmq(self) -> RabbitServer:
        """A RabbitMQ for the broker, that runs."""
        return _started(RabbitServer(self._home / "rabbitmq", self.certificate))

    @cached_property
    def certificate(self) -> Certificate | None:
        """The certificate of the servers, for localhost; None: openssl is not installed."""
        try:
            return make_certificate(self._home / "certificate")
        except ConfigurationError:
            return None

    @cached_property
    def _home(self) -> Path:
        home = self.folder / "session"
        make_home(home)
        return home

    @cached_property
    def _sockets(self) -> Path:
        return make_socket_folder(self._home)


def _started(server: _Server) -> _Server:
    try:
        server.start()
    except (ConfigurationError, ServiceUnreachable) as error:
        missing(type(server).__name__, error)
    return server


def _sweep(folder: Path) -> None:
    for home in folder.iterdir():
        kill_servers(home)
    shutil.rmtree(folder)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    _sweep(Path(sys.argv[1]))
