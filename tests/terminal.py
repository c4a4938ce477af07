"""The command line as it is seen in a terminal."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from orchestrator.runtime import worker_environment
from tests.deployment import Deployment

__all__ = ["Terminal"]

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`docmill` in a terminal of 80 columns."""

    def __init__(self, deployment: Deployment, *arguments: str) -> None:
        self._terminal, client = pty.openpty()
        fcntl.ioctl(client, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *arguments],
            env={**os.environ, **worker_environment(deployment.settings), "TERM": "xterm"},
            stdin=client,
            stdout=client,
            stderr=client,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(client)
        self._read = b""

    @property
    def said(self) -> str:
        """What was said so far, without colours and movements; a sequence may have come in two parts."""
        return _CONTROL.sub("", self._read.decode(errors="ignore"))

    def read_until(self, text: str) -> None:
        """Wait until it has said so."""
        while text not in self.said:
            self._read += os.read(self._terminal, 4096)

    def press_ctrl_c(self) -> None:
        """Interrupt it."""
        os.write(self._terminal, b"\x03")

    def type_line(self, text: str) -> None:
        """Answer it."""
        os.write(self._terminal, f"{text}\n".encode())

    def read_to_the_end(self) -> str:
        """All that was said."""
        try:
            while found := os.read(self._terminal, 4096):
                self._read += found
        except OSError:  # Linux says so when the other side is closed
            pass
        os.close(self._terminal)
        return self.said


def _take_terminal() -> None:
    """Make the terminal on standard input the one that Ctrl-C comes from."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
