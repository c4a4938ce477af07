"""Async helpers: many calls of a service at once, bounded, in order, and none left running behind a failure.

Before an error is raised here, the jobs that run are cancelled and awaited, and those that never started are closed:
a call that nobody waits for costs money all the same.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from contextvars import copy_context
from itertools import islice
from typing import Any, Literal, TypeVar, overload

from orchestrator.contracts.errors import ConfigurationError
from workers.bounded_jobs import BoundedJobs, abandon

__all__ = ["DEFAULT_WORKERS", "as_completed", "asyncio_run", "batch_gather", "chunks", "run_async_tasks", "run_jobs"]

T = TypeVar("T")
DEFAULT_WORKERS = 4  # jobs at once


def asyncio_run(coro: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from synchronous code: returns its result, raises its error as it is.

    Where no event loop runs in this thread, one is made. Inside a running loop the coroutine gets a loop of its own in
    another thread, which sees the caller's context variables; the caller's loop stands still meanwhile.
    """
    if not _is_loop_running():
        return asyncio.run(coro)
    with ThreadPoolExecutor(1, thread_name_prefix="asyncio_run") as pool:
        return pool.submit(copy_context().run, asyncio.run, coro).result()


@overload
def as_completed(
    jobs: Iterable[Awaitable[T]],
    workers: int = ...,
    *,
    timeout: float | None = ...,
    return_exceptions: Literal[False] = ...,
) -> AsyncGenerator[tuple[int, T], None]: ...
@overload
def as_completed(
    jobs: Iterable[Awaitable[T]], workers: int = ..., *, timeout: float | None = ..., return_exceptions: bool
) -> AsyncGenerator[tuple[int, T | BaseException], None]: ...
def as_completed(
    jobs: Iterable[Awaitable[T]],
    workers: int = DEFAULT_WORKERS,
    *,
    timeout: float | None = None,
    return_exceptions: bool = False,
) -> AsyncGenerator[tuple[int, Any], None]:
    """Await jobs, `workers` of them at once, and yield (place in the input, result) as each finishes.

    The jobs run ahead of a slow consumer by at most twice `workers` results. Leave the loop early only inside
    `contextlib.aclosing`, which cancels and awaits what still runs. Parameters and errors are those of `run_jobs`.
    """
    _check_at_least_one("workers", workers)
    if timeout is not None and not timeout > 0:
        raise ConfigurationError(f"timeout must be more than 0 seconds, or None for no limit, not {timeout!r}")
    return BoundedJobs(jobs, workers, timeout, return_exceptions).results()


@overload
async def run_jobs(
    jobs: Iterable[Awaitable[T]],
    workers: int = ...,
    show_progress: bool = ...,
    desc: str | None = ...,
    *,
    timeout: float | None = ...,
    return_exceptions: Literal[False] = ...,
) -> list[T]: ...
@overload
async def run_jobs(
    jobs: Iterable[Awaitable[T]],
    workers: int = ...,
    show_progress: bool = ...,
    desc: str | None = ...,
    *,
    timeout: float | None = ...,
    return_exceptions: bool,
) -> list[T | BaseException]: ...
async def run_jobs(
    jobs: Iterable[Awaitable[T]],
    workers: int = DEFAULT_WORKERS,
    show_progress: bool = False,
    desc: str | None = None,
    *,
    timeout: float | None = None,
    return_exceptions: bool = False,
) -> list[Any]:
    """Await jobs, `workers` of them at once, and return their results in the order of the input.

    Args:
        jobs: taken one by one as workers get free, so it may be a generator that makes a million.
        workers: tasks that are made; the jobs of one task share its context variables.
        show_progress: draw a bar on standard error.
        desc: the words before the bar.
        timeout: seconds that each job may take.
        return_exceptions: put what a job raised in its place, instead of ending at the first failure.

    Raises:
        ConfigurationError: `workers` or `timeout` is out of range, and no job was started. It is a ValueError.
        TimeoutError: a job took longer than `timeout`.
        Exception: the first that a job raised; by then the others are cancelled and over.
    """
    finished = as_completed(jobs, workers, timeout=timeout, return_exceptions=return_exceptions)
    results: dict[int, Any] = {}
    total = len(jobs) if isinstance(jobs, Sized) else None
    with _progress(total, desc or "Running jobs", shown=show_progress) as advance:
        async with aclosing(finished):
            async for index, result in finished:
                results[index] = result
                advance()
    return [results[index] for index in range(len(results))]


def run_async_tasks(
    tasks: Iterable[Awaitable[T]],
    show_progress: bool = False,
    progress_bar_desc: str = "Running async tasks",
    *,
    workers: int = DEFAULT_WORKERS,
    timeout: float | None = None,
) -> list[T]:
    """`run_jobs` from synchronous code, inside a running loop too. Each task is run once, with progress or without.

    Raises:
        ConfigurationError, TimeoutError, Exception: as `run_jobs`.
    """
    return asyncio_run(run_jobs(tasks, workers, show_progress, progress_bar_desc, timeout=timeout))


async def batch_gather(tasks: Iterable[Awaitable[T]], batch_size: int = 10, verbose: bool = False) -> list[T]:
    """Await tasks one batch after another: a batch begins when the one before is over. Results in the input's order.

    Args:
        tasks: taken batch by batch; may be a generator.
        batch_size: tasks at once.
        verbose: write a line to standard error after each batch.

    Raises:
        ConfigurationError: `batch_size` is below 1, and no task was started. It is a ValueError.
        Exception: the first that a task raised; its batch is cancelled and over by then, and no other is begun.
    """
    _check_at_least_one("batch_size", batch_size)
    rest = iter(tasks)
    results: list[T] = []
    try:
        while batch := list(islice(rest, batch_size)):
            results += await run_jobs(batch, batch_size)
            if verbose:
                print(f"{len(results)} tasks done", file=sys.stderr)  # noqa: T201 - asked for
    finally:
        await abandon(tasks, rest)
    return results


def chunks(iterable: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Slices of `size` items in order; the last may be shorter. The iterable is read slice by slice.

    Raises:
        ConfigurationError: `size` is below 1. It is a ValueError.
    """
    _check_at_least_one("size", size)
    items = iter(iterable)
    return iter(lambda: tuple(islice(items, size)), ())


def _check_at_least_one(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number from 1 on, not {value!r}")


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def _progress(total: int | None, words: str, *, shown: bool) -> Iterator[Callable[[], None]]:
    """Yields what to call after each job."""
    if not shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(words, total=total)
        yield lambda: progress.advance(bar)
