"""Paid jobs: calls of a provider, many at once; after a failure none is begun, and those on their way are let finish.

A provider bills a call whether or not anybody waits for it, so waiting keeps the bill right and the answer with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from orchestrator.contracts.errors import DocmillError
from workers.async_utils import run_jobs

__all__ = ["run_paid_jobs"]

T = TypeVar("T")


async def run_paid_jobs(jobs: Iterable[Callable[[], Awaitable[T]]], workers: int) -> list[T]:
    """What the jobs return, in order; `workers` of them at once.

    Raises:
        DocmillError: the first that a job raised, once no job is on its way any more.
        ConfigurationError: `workers` is out of range.
    """
    failures: list[DocmillError] = []

    async def attempt(job: Callable[[], Awaitable[T]]) -> list[T]:
        if failures:
            return []
        try:
            return [await job()]
        except DocmillError as error:
            failures.append(error)
            return []

    results = await run_jobs((attempt(job) for job in jobs), workers=workers)
    if failures:
        raise failures[0]
    return [result for found in results for result in found]
