"""Serves what the processes of one worker have counted, on a port of the worker's main process."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from orchestrator.contracts.errors import ConfigurationError
from workers.metrics.measured import begin_counting

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

__all__ = ["leave_to_main", "serve"]

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_server: WSGIServer | None = None


def serve(address: str, port: int) -> None:
    """Count, and answer at `http://address:port/metrics`, from a thread. Before the first child is forked.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    global _server
    folder = tempfile.mkdtemp(prefix="docmill-metrics-")
    os.environ[_FOLDER] = folder  # prometheus_client reads it when it is first imported, which is next
    main = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == main else None)
    begin_counting()

    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]  # the library's own gap
    try:
        _server, _ = start_http_server(port, address, registry)
    except OSError as error:
        raise ConfigurationError(
            f"DOCMILL_METRICS_PORT={port}: {address}:{port} cannot be listened on: {error}; "
            "give each worker of a machine a port of its own, or unset it"
        ) from error


def leave_to_main() -> None:
    """In a child: let go of the socket, or a child that outlives the main process would keep the port."""
    global _server
    if _server is not None:
        _server.socket.close()
        _server = None
