"""Ports of loopback for servers of tests."""

import random
import socket
from contextlib import suppress

__all__ = ["free_port"]

# Below those that the system gives to connections: one could take a port before its server does.
_PORTS = range(15_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """A port of loopback that nobody listens on, never the same twice in one process."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
