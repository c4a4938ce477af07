"""Meters: processor time and memory of processes and all that they start, at next to no cost to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]

__all__ = ["MemoryMeter", "cpu_seconds"]

_EVERY_SECONDS = 0.1
_LOOKS_A_FAMILY = 10  # who belongs to whom costs a walk over all processes
_NEW_PEAK = 1.02


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
    """The peak of memory of processes with their descendants, in bytes, while the context lasts.

    Memory that processes share is counted once (PSS); where the system does not say that, it is counted for each
    (RSS). The kernel walks all pages to say PSS, which at ten times a second took a fifth of two processors from what
    was measured. So that is asked only when RSS, which costs nothing, is at a new peak. Peaks between two looks are
    missed, and up to 2 % of one.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self.peak = 0
        self._pids = pids
        self._highest_resident = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-meter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        looks = 0
        family: list[Any] = []
        while not self._ended.wait(_EVERY_SECONDS):
            if looks % _LOOKS_A_FAMILY == 0:
                family = list(_families(self._pids))
            looks += 1
            self._look(family)
        self._look(list(_families(self._pids)))

    def _look(self, family: Sequence[Any]) -> None:
        resident = sum(_resident(process) for process in family)
        if resident > self._highest_resident * _NEW_PEAK:
            self._highest_resident = resident
            self.peak = max(self.peak, sum(_memory(process) for process in family))


def _families(pids: Sequence[int]) -> Iterator[Any]:
    for pid in pids:
        try:
            process = psutil.Process(pid)
            yield from [process, *process.children(recursive=True)]
        except psutil.Error:
            continue


def _resident(process: Any) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _memory(process: Any) -> int:
    try:
        full = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(full, "pss", full.rss))
