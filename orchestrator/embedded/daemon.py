"""`docmill up` and `docmill down`: a process in the background that uses the stack until it is told to stop."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable
from orchestrator.embedded.folders import make_home, resolved
from orchestrator.embedded.locks import FileLock
from orchestrator.embedded.processes import log_tail, stop_process, wait_until
from orchestrator.embedded.stack import EmbeddedStack

__all__ = ["announced", "daemon_pid", "down", "up"]

_READY_SECONDS = 120.0  # servers with a crash behind them, then the migrations
_DOWN_SECONDS = 60.0  # the workers finish what they hold, then the servers stop


@contextmanager
def announced(home: Path) -> Iterator[None]:
    """In the daemon, once it is ready: be the one that `daemon_pid` finds, for as long as the block lasts.

    Raises:
        ConfigurationError: the home has a daemon already.
    """
    home = resolved(home)
    mark = _mark(home)
    with _change(home).exclusively():
        if not mark.acquire(wait=False):
            raise ConfigurationError(f"docmill is up already in {home}; `docmill down` stops it")
        mark.write(json.dumps({"pid": os.getpid()}))
    try:
        yield
    finally:
        mark.release()


def daemon_pid(home: Path) -> int | None:
    """The process of the daemon that is ready; None if there is none.

    A daemon locks its mark: what the file says counts only while somebody holds it, so the number is never a stranger.
    """
    home = resolved(home)
    if not home.is_dir():
        return None
    mark = _mark(home)
    # Under the lock of all changes: a look that holds the mark for an instant must not turn a daemon away.
    with _change(home).exclusively():
        is_free = mark.acquire(wait=False)
        mark.release()
        return None if is_free else int(json.loads(mark.path.read_text())["pid"])


def up(home: Path, command: Sequence[str]) -> int:
    """Start a daemon by its command, in a session of its own, and wait until it has `announced` itself.

    The command must run the daemon in the foreground, on this home. Returns its process; one that is up is used.

    Raises:
        ConfigurationError: the home cannot be used.
        ServiceUnreachable: it ended or was not ready in time; the message ends with its log, `<home>/up.log`.
    """
    home = resolved(home)
    pid = daemon_pid(home)
    if pid is not None:
        return pid
    make_home(home)
    log = home / "up.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    wait_until(lambda: daemon_pid(home) is not None or process.poll() is not None, _READY_SECONDS)
    # Whoever is ready will do: of two `up` at once, one finds the other's.
    pid = daemon_pid(home)
    if pid is not None:
        return pid
    ended = process.poll()
    if ended is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    reason = "was not ready in time" if ended is None else f"ended with status {ended}"
    raise ServiceUnreachable("the daemon of docmill", str(home), f"it {reason}; {log_tail(log)}")


def down(home: Path) -> bool:
    """Stop the daemon, and servers that a killed command left behind. True if there was anything to stop.

    Other commands may still use the servers, which then stop with the last of them: ask `EmbeddedStack.is_used`.
    """
    pid = daemon_pid(home)
    if pid is not None:
        stop_process(pid, timeout=_DOWN_SECONDS)
    left_behind = EmbeddedStack(home).stop_unused()
    return pid is not None or left_behind


def _mark(home: Path) -> FileLock:
    return FileLock(home / "up.json")


def _change(home: Path) -> FileLock:
    return FileLock(home / "change.lock")
