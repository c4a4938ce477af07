"""Processes that are not our children: whether one lives, what it runs, and how it is stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["command_line", "is_alive", "log_tail", "stop_process", "wait_until"]

_POLL_SECONDS = 0.01  # a server starts or stops in tens of milliseconds
_LOG_LINES = 12


def is_alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not: containers often have nobody who reaps."""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return False
        # The state follows the name, which stands in parentheses and may hold some itself.
        return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    state = _ask_ps(pid, "state")
    return bool(state) and not state.startswith("Z")


def command_line(pid: int) -> str:
    """Program and arguments of a process, separated by spaces; empty if it does not run."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            return ""
    return _ask_ps(pid, "command")


def _ask_ps(pid: int, column: str) -> str:
    asked = subprocess.run(["ps", "-ww", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True)
    return asked.stdout.strip()


def stop_process(pid: int, *, timeout: float, ask: signal.Signals = signal.SIGTERM) -> None:
    """Ask a process to stop; kill it if it has not after `timeout` seconds. Returns when it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, ask)
        if not wait_until(lambda: not is_alive(pid), timeout):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid), timeout)


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Ask again and again until the condition holds (True) or `timeout` seconds have passed (False)."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def log_tail(path: Path) -> str:
    """How a log file ends, as part of an error message."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"its log {path} cannot be read: {error.strerror}"
    return f"its log {path} ends:\n" + "\n".join(lines[-_LOG_LINES:])
