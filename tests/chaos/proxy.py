"""A network that can be cut: a TCP port of loopback that forwards to a server, or is silent, or refuses."""

import contextlib
import socket
import threading
from collections.abc import Callable

__all__ = ["Proxy"]

_CHUNK_BYTES = 64 * 1024


class Proxy:
    """Forwards connections to whatever `connect` connects to.

    Silent: what is sent waits, as behind a router that drops packets; after healing it arrives.
    Refusing: what is connected breaks, and new connections are refused, as by a machine that was restarted.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener = self._listen(0)
        self.port = int(self._listener.getsockname()[1])

    def silence(self) -> None:
        """Let nothing through any more, in either direction."""
        self._flowing.clear()

    def refuse(self) -> None:
        """Break every connection, and take no new one."""
        _close(self._listener)
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for side in pair:
                _close(side)

    def heal(self) -> None:
        """Forward again."""
        if self._listener.fileno() < 0:
            self._listener = self._listen(self.port)
        self._flowing.set()

    def close(self) -> None:
        """Stop for good."""
        self.refuse()
        self._flowing.set()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        self._flowing.wait()
        try:
            far = self._connect()
        except OSError:
            _close(near)
            return
        with self._lock:
            self._pairs.add((near, far))
        back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
        back.start()
        self._pump(near, far)
        back.join()
        with self._lock:
            self._pairs.discard((near, far))

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                self._flowing.wait()
                target.sendall(data)
        _close(source)
        _close(target)


def _close(side: socket.socket) -> None:
    # Shut down first: closing alone does not wake a thread that reads.
    with contextlib.suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
    side.close()
