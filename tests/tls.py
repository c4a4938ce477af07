"""TLS for the tests: certificates of a CA of their own, and a door with TLS to a server that has none built in."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from orchestrator.contracts.errors import ConfigurationError

__all__ = ["Certificate", "TlsDoor", "make_certificate"]

_DAYS = "2"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_EXTENSIONS = """\
subjectAltName = DNS:{name}
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
_CHUNK_BYTES = 64 * 1024
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")  # what a client of Postgres asks before it says anything else
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files of a server's certificate, in PEM: the CA that signed it, itself, and its key."""

    ca: Path
    file: Path
    key: Path


def make_certificate(folder: Path, name: str = "localhost") -> Certificate:
    """A certificate for a name, of a CA that is made for it alone.

    Raises:
        ConfigurationError: openssl is not installed, or cannot.
    """
    if shutil.which("openssl") is None:
        raise ConfigurationError("no openssl is installed: apt-get install openssl")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "extensions").write_text(_EXTENSIONS.format(name=name))
    ca_usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions")
    for words in (
        (
            "req",
            "-x509",
            *_NEW_KEY,
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-subj",
            "/CN=CA",
            "-days",
            _DAYS,
            *ca_usage,
        ),
        ("req", "-new", *_NEW_KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={name}"),
        ("x509", "-req", "-in", "server.csr", "-out", "server.pem", "-days", _DAYS, *signed),
    ):
        made = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise ConfigurationError(f"openssl {words[0]}: {made.stderr.strip()}")
    return Certificate(folder / "ca.pem", folder / "server.pem", folder / "server.key")


class TlsDoor:
    """A port of loopback that speaks TLS, and leads to a server's Unix socket.

    Args:
        target: the server's socket.
        certificate: is shown to clients.
        is_postgres: TLS begins where the client of a Postgres asks for it, rather than at once.
    """

    def __init__(self, target: Path, certificate: Certificate, *, is_postgres: bool = False) -> None:
        self._target = target
        self._is_postgres = is_postgres
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate.file, certificate.key)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda *_: None)  # of connections that broke: their peers were told
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port: int = self._run(self._listen)

    def close(self) -> None:
        """Shut the door; connections through it break."""
        self._run(self._shut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_SECONDS)
        self._loop.close()

    def _run(self, step: Callable[[], Awaitable[int]]) -> int:
        async def run() -> int:
            return await step()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_ANSWER_SECONDS)

    async def _listen(self) -> int:
        context = None if self._is_postgres else self._context
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        return int(self._server.sockets[0].getsockname()[1])

    async def _shut(self) -> int:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(tasks)

    async def _serve(self, near: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):  # the client went away, or did not like the certificate
            try:
                if self._is_postgres:
                    if await near.readexactly(len(_SSL_REQUEST)) != _SSL_REQUEST:
                        return  # without TLS nobody comes in
                    answer.write(b"S")
                    await answer.start_tls(self._context)
                far, request = await asyncio.open_unix_connection(self._target)
                try:
                    await asyncio.gather(_pump(near, request), _pump(far, answer))
                finally:
                    request.close()
            finally:
                answer.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_CHUNK_BYTES):
            target.write(data)
            await target.drain()
    finally:
        target.close()
