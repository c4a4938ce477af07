"""A RabbitMQ for tests: one node on loopback, with data, cookie and port mapper of its own."""

import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable
from orchestrator.embedded.processes import log_tail, wait_until
from tests.ports import free_port
from tests.tls import Certificate

__all__ = ["RabbitServer"]

_START_SECONDS = 60.0  # 5 s as a rule
_SYSTEM_USER = "rabbitmq"  # of the distribution's package; root runs the server as it
_GREETING = b"AMQP\x00\x00\x09\x01"  # a server of AMQP 0-9-1 answers it
_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class RabbitServer:
    """A RabbitMQ with everything it writes in one folder, and all its processes in one group.

    With a certificate it listens on `tls_port` too, with TLS.
    """

    USER, PASSWORD = "docmill", "known-to-the-tests"

    def __init__(self, folder: Path, certificate: Certificate | None = None) -> None:
        self.folder = folder
        self.tls_port = free_port()
        self._certificate = certificate
        self._log = folder / "server.log"
        self._pid_file = folder / "server.pid"
        self._port, self._distribution_port, self._mapper_port = free_port(), free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, for Celery."""
        return self.url_at(self._port)

    @classmethod
    def url_at(cls, port: int) -> str:
        """The address of a RabbitMQ behind a port of loopback."""
        return f"amqp://{cls.USER}:{cls.PASSWORD}@127.0.0.1:{port}//"

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        return self._port

    def start(self) -> None:
        """Start the server and wait for it.

        Raises:
            ConfigurationError: it is not installed.
            ServiceUnreachable: it did not come up; the message ends with its log.
        """
        program = _PROGRAM if _PROGRAM.exists() else shutil.which("rabbitmq-server")
        if program is None:
            raise ConfigurationError("no rabbitmq-server is installed: apt-get install rabbitmq-server")
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        is_root = os.geteuid() == 0
        if is_root:
            shutil.chown(self.folder, _SYSTEM_USER, _SYSTEM_USER)
        (self.folder / "plugins").write_text("[].")
        self._configure(_SYSTEM_USER if is_root else None)
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                # The port mapper would be started as a daemon, and stay; as one of the group it goes with the server.
                ["sh", "-c", 'epmd & exec "$0"', str(program)],
                env=self._environment(),
                user=_SYSTEM_USER if is_root else None,
                group=_SYSTEM_USER if is_root else None,
                extra_groups=[] if is_root else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )
        self._pid_file.write_text(str(self._process.pid))
        process = self._process
        if not wait_until(lambda: self.answers() or process.poll() is not None, _START_SECONDS) or not self.answers():
            raise ServiceUnreachable("RabbitMQ", self.url_at(self._port), f"it did not start; {log_tail(self._log)}")

    def kill(self) -> None:
        """kill -9 for the server and all its helpers."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        self._pid_file.unlink(missing_ok=True)

    def answers(self) -> bool:
        """Whether the server takes connections."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=2) as connection:
                connection.sendall(_GREETING)
                return bool(connection.recv(1))
        except OSError:
            return False

    @staticmethod
    def kill_left_behind(folder: Path) -> None:
        """Kill the server of a folder whose starter has died."""
        with suppress(OSError, ValueError):
            os.killpg(int((folder / "server.pid").read_text()), signal.SIGKILL)

    def _configure(self, reader: str | None) -> None:
        lines = [f"default_user = {self.USER}", f"default_pass = {self.PASSWORD}"]
        if self._certificate is not None:
            lines.append(f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}")
            files = {"cacertfile": self._certificate.ca, "certfile": self._certificate.file}
            for name, source in {**files, "keyfile": self._certificate.key}.items():
                copy = shutil.copy(source, self.folder)
                if reader is not None:
                    shutil.chown(copy, reader)
                lines.append(f"ssl_options.{name} = {copy}")
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),  # where the cookie is made
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"docmill{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            # One thread that does not spin while idle: the tests need the processor.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
        }
