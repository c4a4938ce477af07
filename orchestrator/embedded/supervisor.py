"""Keeps worker processes running: starts them, restarts those that die, and never leaves one behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import IO, Self
from weakref import WeakSet

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.logs import get_logger

__all__ = ["Supervisor"]

_FIRST_PAUSE = 0.5  # seconds before a restart; doubles with each one
_LONGEST_PAUSE = 10.0
_STEADY_SECONDS = 30.0  # alive for so long, a process starts over at the first pause
_log = get_logger(__name__)
# Held while a process starts, and while this one forks: the fork would keep the half-made pipes of the one that starts.
_changing = Lock()
_GUARD = Path(__file__).with_name("guard.py")


class Supervisor:
    """Runs a command `count` times, each in a session of its own, and starts again what ends. A context manager.

    Each process has a guard beside it (guard.py), which stops it should this process die, even by kill -9.

    Attributes:
        restarts: how often a process was started again.
    """

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], count: int, log_dir: Path | None = None
    ) -> None:
        """
        Args:
            command: program and arguments.
            environment: variables added to those of this process.
            count: processes to keep running, 1 at least.
            log_dir: where outputs go, as `worker-1.log`, `worker-2.log`, …; None: to our own output.

        Raises:
            ConfigurationError: there is no such program, or the count is below 1.
        """
        if count < 1:
            raise ConfigurationError(f"count of worker processes is {count}; allowed is 1 or more")
        if not command or shutil.which(command[0]) is None:
            raise ConfigurationError(f"command {list(command)!r} names no program that can be run")
        self.restarts = 0
        self._command = list(command)
        self._environment = dict(environment)
        self._log_dir = log_dir
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._stopping = Event()
        self._keepers = [Thread(target=self._keep, args=(number,), daemon=True) for number in range(1, count + 1)]
        _supervisors.add(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pids(self) -> list[int]:
        """The leaders of the process groups that run now: a signal to one is handed on to its process."""
        with _changing:
            return [process.pid for process in self._running.values() if process.returncode is None]

    def start(self) -> None:
        """Start the processes; once."""
        if self._log_dir is not None:
            self._log_dir.mkdir(parents=True, exist_ok=True)
        for keeper in self._keepers:
            keeper.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Ask all processes to stop by SIGTERM; kill what runs after `timeout` seconds, and children left behind."""
        with _changing:
            self._stopping.set()
            running = list(self._running.values())
        for process in running:
            process.terminate()
        deadline = time.monotonic() + timeout
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for process in running:
            _kill_group(process)
        for keeper in self._keepers:
            if keeper.ident is not None:
                keeper.join()

    def forget(self) -> None:
        """In a fork: close the copies of the lifelines, which would outlive the supervisor."""
        for process in self._running.values():
            if process.stdin is not None:
                process.stdin.close()
        self._running.clear()

    def _keep(self, number: int) -> None:
        """Run one of the processes until `stop`."""
        pause = _FIRST_PAUSE
        while True:
            started = time.monotonic()
            how = self._run(number)
            if self._stopping.is_set():
                return
            if time.monotonic() - started >= _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            _log.warning("worker process is started again", worker=number, reason=how, seconds=pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _run(self, number: int) -> str:
        """Start a process and wait for its end; returns how that was."""
        try:
            process = self._spawn(number)
        except OSError as error:  # no memory or no process left: that may pass
            return f"it could not be started: {error}"
        if process is None:
            return "nobody wants it"
        status = process.wait()
        _kill_group(process)
        return f"it ended with status {status}"

    def _spawn(self, number: int) -> subprocess.Popen[bytes] | None:
        """Start a process, in place of the one that ran under its number; None once `stop` was called."""
        # Under the lock: after `stop` has read who runs, nobody starts any more.
        with _changing, self._output(number) as output:
            if self._stopping.is_set():
                return None
            self.restarts += number in self._running
            self._running[number] = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), *self._command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                bufsize=0,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
            return self._running[number]

    def _output(self, number: int) -> AbstractContextManager[IO[bytes] | None]:
        if self._log_dir is None:
            return nullcontext()
        return (self._log_dir / f"worker-{number}.log").open("ab")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a group: children outlive a worker that was killed."""
    # macOS says PermissionError of a group of zombies.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


_supervisors: WeakSet[Supervisor] = WeakSet()


def _forget_all() -> None:
    for supervisor in tuple(_supervisors):
        supervisor.forget()
    _changing.release()


os.register_at_fork(before=_changing.acquire, after_in_parent=_changing.release, after_in_child=_forget_all)
