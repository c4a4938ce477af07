"""A real Flower for tests, on a port of loopback, and requests to it."""

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.runtime import worker_environment
from orchestrator.settings import Settings
from tests.deployment import wait_for
from tests.ports import free_port

__all__ = ["Answer", "FlowerServer"]

_ROOT = Path(__file__).parent.parent
_TOKEN = "2|00000000|00000000000000000000000000000000|0"  # noqa: S105 - of the form that Tornado takes


class Answer(NamedTuple):
    """What Flower answered."""

    status: int
    headers: HTTPMessage
    text: str


class FlowerServer:
    """A Flower in a process of its own.

    Args:
        environment: its options, as FLOWER_….
        module: what is run; that of `docmill flower` unless another is named.
    """

    USER, PASSWORD = "ann", "known-to-the-tests"

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        environment: dict[str, str] | None = None,
        *,
        module: str = "orchestrator.cli.flower",
        has_login: bool = True,
    ) -> None:
        self.port = free_port()
        self.has_login = has_login
        login = {"FLOWER_BASIC_AUTH": f"{self.USER}:{self.PASSWORD}"} if has_login else {}
        self.log = folder / f"flower-{self.port}.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, "--address=127.0.0.1", f"--port={self.port}"],
                env={**os.environ, **worker_environment(settings), **login, **(environment or {})},
                stdout=output,
                stderr=output,
                cwd=_ROOT,
            )
        self._prefix = (environment or {}).get("FLOWER_URL_PREFIX", "")
        wait_for(self._is_up)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}" + (f"/{self._prefix}" if self._prefix else "")

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        logs_in: bool = True,
        with_token: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request. Not followed where it is sent elsewhere."""
        sent = dict(headers or {})
        if logs_in and self.has_login:
            credentials = b64encode(f"{self.USER}:{self.PASSWORD}".encode()).decode()
            sent |= {"Authorization": f"Basic {credentials}"}
        if with_token:
            cookies = [f"_xsrf={_TOKEN}", *([sent["Cookie"]] if "Cookie" in sent else [])]
            sent |= {"Cookie": "; ".join(cookies), "X-XSRFToken": _TOKEN}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, f"/{self._prefix}{path}" if self._prefix else path, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read().decode())
        finally:
            connection.close()

    def _is_up(self) -> Any:
        assert self._process.poll() is None, self.log.read_text(errors="replace")
        try:
            return self.ask("/healthcheck").status == 200
        except OSError:
            return False

    def close(self) -> None:
        """Stop it at once: it has nothing worth saving, and takes seconds to say goodbye."""
        self._process.kill()
        self._process.wait(20)
