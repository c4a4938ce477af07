"""Meters: processor time and memory of processes and all that they start."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]

__all__ = ["MemoryMeter", "cpu_seconds"]

_EVERY_SECONDS = 0.1  # reading a process's memory costs the kernel about 1 ms


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time of processes, their descendants, and of those of them that have ended and been waited for."""
    total = 0.0
    for process in _families(pids):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # it has just ended: its parent has its time now
        # What a process waited for is in its own children_*, so nothing counts twice and nothing gets lost.
        total += times.user + times.system + getattr(times, "children_user", 0.0)
        total += getattr(times, "children_system", 0.0)
    return total


class MemoryMeter:
    """The peaks of memory of groups of processes with their descendants, in bytes, while the context lasts.

    Memory that processes share is counted once (PSS); where the system does not say that, it is counted for each
    (RSS). Peaks between two looks are missed.
    """

    def __init__(self, groups: Mapping[str, Sequence[int]]) -> None:
        self.peaks = dict.fromkeys(groups, 0)
        self._groups = groups
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-meter", daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            self._look()

    def _look(self) -> None:
        for name, pids in self._groups.items():
            held = sum(_memory(process) for process in _families(pids))
            self.peaks[name] = max(self.peaks[name], held)


def _families(pids: Sequence[int]) -> Iterator[Any]:
    for pid in pids:
        try:
            process = psutil.Process(pid)
            yield from [process, *process.children(recursive=True)]
        except psutil.Error:
            continue


def _memory(process: Any) -> int:
    try:
        full = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(full, "pss", full.rss))
