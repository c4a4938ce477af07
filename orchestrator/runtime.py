"""Runtime: the services of this process. With addresses set, those; with none, the embedded stack and its workers."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pydantic import SecretStr

from orchestrator.connections import Connections
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.embedded import Supervisor

__all__ = ["Runtime", "default_workers", "process_runtime", "worker_command", "worker_environment"]

_process_runtimes: dict[frozenset[tuple[str, str]], Runtime] = {}  # by all that the settings say
_process_lock = threading.Lock()


def default_workers() -> int:
    """Worker processes that suit this machine: one a core that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def worker_command(concurrency: int) -> list[str]:
    """The command that runs one worker with so many processes."""
    return [sys.executable, "-m", "workers", "--concurrency", str(concurrency)]


def worker_environment(settings: Settings) -> dict[str, str]:
    """The variables that point a worker at the same services as these settings. Holds keys: for a child's eyes only."""
    # What was set, also where it is the default: the worker's settings file might say otherwise.
    values = settings.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    secrets = {name: value for name, value in settings if isinstance(value, SecretStr)}  # a dump holds asterisks
    values |= {name: secret.get_secret_value() for name, secret in secrets.items()}
    values["home"] = str(settings.home)
    return {f"DOCMILL_{name.upper()}": _as_variable(value) for name, value in values.items()}


def _as_variable(value: object) -> str:
    if isinstance(value, list):
        is_table = not all(isinstance(item, str) for item in value)
        return json.dumps(value) if is_table else ",".join(value)
    return str(value)


class Runtime:
    """What a process talks to, for as long as it needs it. A context manager.

    Args:
        settings: where the services are.
        workers: worker processes to run here as well. None: none where addresses are set or `docmill up` has its
            own, else one a core.
        log_to_file: the workers' output goes to <home>/logs, rather than to this process's own.
    """

    def __init__(self, settings: Settings, *, workers: int | None = 0, log_to_file: bool = True) -> None:
        self.settings = settings
        self._workers = workers
        self._log_to_file = log_to_file
        self._opened = ExitStack()
        self._connections: Connections | None = None
        self._is_embedded = False
        self._supervisor: Supervisor | None = None
        self._running_workers = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def connections(self) -> Connections:
        """The open connections."""
        if self._connections is None:
            self.open()
        assert self._connections is not None  # noqa: S101 - open() sets it or raises
        return self._connections

    def open(self) -> None:
        """Connect; start what is embedded, with its schema brought up to date. Twice is once.

        Raises:
            ConfigurationError, ServiceUnreachable: as the parts do.
        """
        if self._connections is not None:
            return
        with ExitStack() as opening:
            is_embedded = self.settings.is_embedded
            if is_embedded:
                self._start_embedded(opening)
            connections = Connections(self.settings)
            opening.callback(connections.close)
            if is_embedded:
                from orchestrator.ledger.migrate import upgrade

                upgrade(connections.engine)
            workers = self._workers_needed(is_embedded)
            opening.callback(self._stop_workers)
            if workers:
                self._start_workers(workers)
            self._is_embedded = is_embedded
            self._connections = connections
            self._opened = opening.pop_all()

    def _start_embedded(self, opening: ExitStack) -> None:
        from orchestrator.embedded import EmbeddedStack

        stack = EmbeddedStack(self.settings.home)
        addresses = asdict(stack.start())
        opening.callback(stack.stop)
        # What is set stays: the cache may lie elsewhere.
        missing = {name: url for name, url in addresses.items() if getattr(self.settings, name) is None}
        self.settings = self.settings.model_copy(update=missing)

    def _workers_needed(self, is_embedded: bool) -> int:
        if self._workers is not None or not is_embedded:
            return self._workers or 0
        from orchestrator.embedded import daemon_pid

        return 0 if daemon_pid(self.settings.home) is not None else default_workers()

    def set_workers(self, count: int) -> bool:
        """Have so many worker processes here; False, and nothing done, where the services are not the embedded ones.

        If there is another number of them, they end the batches they run and make place for new ones.
        """
        if not self._is_embedded:
            return False
        with self._lock:
            if self._running_workers != count:
                self._stop_workers()
                self._start_workers(count)
        return True

    def _start_workers(self, count: int) -> None:
        from orchestrator.embedded import Supervisor

        self._supervisor = Supervisor(
            worker_command(count),
            environment=worker_environment(self.settings),
            count=1,
            log_dir=self.settings.home / "logs" if self._log_to_file else None,
        )
        self._supervisor.start()
        self._running_workers = count

    def _stop_workers(self) -> None:
        if self._supervisor is not None:
            self._supervisor.stop()
        self._supervisor, self._running_workers = None, 0

    def close(self) -> None:
        """Let go of everything, in the opposite order; embedded servers that nobody else uses are stopped."""
        self._connections = None
        self._opened.close()


def process_runtime(settings: Settings, workers: int | None = None) -> Runtime:
    """The runtime that this process shares among its pipelines; closed when the process ends.

    Args:
        workers: worker processes to begin with, where it is begun here and is the embedded stack.
    """
    with _process_lock:
        key = frozenset(worker_environment(settings).items())
        if key not in _process_runtimes:
            runtime = Runtime(settings, workers=workers if settings.is_embedded else None)
            runtime.open()
            atexit.register(runtime.close)
            _process_runtimes[key] = runtime
        return _process_runtimes[key]
