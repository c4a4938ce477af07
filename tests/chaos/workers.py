"""Supervised workers of a trial, as `docmill worker` runs them, and the means to hurt them."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from orchestrator.embedded import Supervisor
from orchestrator.runtime import worker_command, worker_environment
from orchestrator.settings import Settings

__all__ = ["WorkerProcess", "kill_process"]

_ROOT = Path(__file__).parents[2]


class _Process(NamedTuple):
    pid: int
    parent: int
    group: int


class WorkerProcess:
    """One worker under a supervisor that starts it again: a guard, Celery's main process, and the pool's children."""

    def __init__(
        self, settings: Settings, logs: Path, *, concurrency: int, environment: Mapping[str, str] | None = None
    ) -> None:
        self.logs = logs
        self.supervisor = Supervisor(
            worker_command(concurrency),
            environment={**worker_environment(settings), **(environment or {}), "PYTHONPATH": str(_ROOT)},
            count=1,
            log_dir=logs,
        )
        self.supervisor.start()

    @property
    def guard(self) -> int | None:
        """The leader of the process group; None while the worker is between two lives."""
        return next(iter(self.supervisor.pids), None)

    @property
    def main(self) -> int | None:
        """Celery's main process."""
        guard = self.guard
        return next((process.pid for process in _processes() if process.parent == guard), None) if guard else None

    @property
    def children(self) -> list[int]:
        """The processes that run batches."""
        main = self.main
        return [process.pid for process in _processes() if process.parent == main] if main else []

    def kill(self) -> None:
        """kill -9 for all of its processes at once, as when the machine dies."""
        if self.guard is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.guard, signal.SIGKILL)

    def tell(self, number: signal.Signals) -> None:
        """A signal for the worker, by way of its guard, as the supervisor would send it."""
        if self.guard is not None:
            with suppress(ProcessLookupError):
                os.kill(self.guard, number)

    def freeze(self) -> list[int]:
        """Stop all processes but the guard, without a word; returns their ids, for `thaw`."""
        main = self.main
        frozen = [pid for pid in (main, *self.children) if pid is not None]
        _signal_all(frozen, signal.SIGSTOP)
        return frozen

    @staticmethod
    def thaw(frozen: list[int]) -> None:
        """Let them go on, as if nothing had been."""
        _signal_all(frozen, signal.SIGCONT)

    def log(self) -> str:
        """How its output ends."""
        path = self.logs / "worker-1.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""


def kill_process(pid: int) -> None:
    """kill -9 for one process."""
    _signal_all([pid], signal.SIGKILL)


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _processes() -> list[_Process]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                # The name stands in parentheses and may hold some itself; state, parent and group follow.
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if fields[0] != "Z":
                    found.append(_Process(int(folder.name), int(fields[1]), int(fields[2])))
    return found
