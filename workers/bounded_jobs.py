"""Bounded jobs: a fixed number of tasks that take jobs one by one, and end together when one of them fails."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, Future, Queue, Task
from collections.abc import AsyncGenerator, Awaitable, Collection, Iterable, Iterator
from inspect import iscoroutine
from typing import Any

__all__ = ["BoundedJobs", "abandon"]


class BoundedJobs:
    """Jobs on their way. `results` is to be read once.

    The tasks share one iterator over the jobs and one queue of results, which holds as many as there are tasks: when
    nobody reads, nothing more is begun.
    """

    def __init__(
        self, jobs: Iterable[Awaitable[Any]], workers: int, timeout: float | None, return_exceptions: bool
    ) -> None:
        self._jobs = jobs
        self._rest = iter(jobs)
        self._source = enumerate(self._rest)
        self._workers = min(workers, len(jobs)) if isinstance(jobs, Collection) else workers
        self._timeout = timeout
        self._return_exceptions = return_exceptions
        self._stopping = False
        self._tasks: list[Task[None]] = []
        # A result with its place; an error, which ends everything; or None: a task found no more jobs.
        self._queue: Queue[tuple[int, Any] | BaseException | None] = Queue(max(1, self._workers))

    async def results(self) -> AsyncGenerator[tuple[int, Any], None]:
        """(Place in the input, result) of each job as it finishes; raises the first failure as it is."""
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        working = len(self._tasks)
        try:
            while working:
                item = await self._queue.get()
                if item is None:
                    working -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
        finally:
            self._stop()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await abandon(self._jobs, self._rest)

    def _stop(self) -> None:
        if self._stopping:  # to cancel a job again would break off its tidying up
            return
        self._stopping = True
        this = asyncio.current_task()
        for task in self._tasks:
            if task is not this:
                task.cancel()

    async def _work(self) -> None:
        try:
            for index, job in self._source:
                result = await self._outcome(index, job)
                if self._stopping:  # this task was cancelled, and the job did not mind
                    return
                await self._queue.put((index, result))
            await self._queue.put(None)
        except (Exception, CancelledError) as error:  # of a job, or of what makes the jobs
            if self._stopping:
                raise
            self._stop()
            if self._queue.full():
                self._queue.get_nowait()  # a result that nobody waits for any more
            self._queue.put_nowait(error)

    async def _outcome(self, index: int, job: Awaitable[Any]) -> Any:
        try:
            return await self._in_time(index, job)
        except (Exception, CancelledError) as error:
            if self._stopping or not self._return_exceptions:
                raise
            return error

    async def _in_time(self, index: int, job: Awaitable[Any]) -> Any:
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                return await job
        except TimeoutError as error:
            if limit.expired():
                raise TimeoutError(f"job {index} took longer than {self._timeout} s") from error
            raise


async def abandon(jobs: Iterable[Awaitable[Any]], rest: Iterator[Awaitable[Any]]) -> None:
    """Let go of the jobs that nobody will await: coroutines that exist are closed, futures cancelled and awaited.

    Jobs that a generator has not made yet are never made.
    """
    if not isinstance(jobs, Collection):
        return
    futures: list[Future[Any]] = []
    for job in rest:
        if iscoroutine(job):
            job.close()
        elif isinstance(job, Future):
            job.cancel()
            futures.append(job)
    await asyncio.gather(*futures, return_exceptions=True)
