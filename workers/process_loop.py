"""One event loop a worker process: where synchronous worker code runs what is async inside.

An async client keeps its connections on the loop that it was first used on. A new loop for each call would open them
anew each time, so there is one, in a daemon thread, for as long as the process lives.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from contextlib import suppress
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

__all__ = ["run_on_process_loop"]

T = TypeVar("T")


class _ProcessLoop:
    """The loop of this process, begun at its first use."""

    def __init__(self) -> None:
        self.forget()
        # A thread does not survive a fork, and the lock may be held in it: the child begins with neither.
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                Thread(target=_serve, args=(self._loop,), name="docmill-loop", daemon=True).start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        # These two break out of the loop as well as out of their coroutine, whose caller is still to be told.
        with suppress(KeyboardInterrupt, SystemExit):
            loop.run_forever()


_process_loop = _ProcessLoop()


def run_on_process_loop(coro: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
    """Run a coroutine on this process's loop, and wait. May be called by many threads at once, before and after a fork.

    The coroutine sees the caller's context variables. When the wait is broken off (Ctrl-C, a soft time limit of Celery)
    the coroutine is cancelled.

    Args:
        timeout: seconds after which the coroutine is cancelled.

    Raises:
        TimeoutError: it took longer.
        RuntimeError: called from a coroutine on this very loop, which would wait for itself.
        Exception: what the coroutine raised, as it is.
    """
    loop = _process_loop.get()
    if _is_running_here(loop):
        coro.close()
        raise RuntimeError("run_on_process_loop was called from a coroutine on that loop; await the coroutine instead")
    call = _Call(_limited(coro, timeout))
    try:
        return asyncio.run_coroutine_threadsafe(call.run(), loop).result()
    except BaseException:
        # Not by the future: whoever is interrupted while it is made never gets to hold it.
        loop.call_soon_threadsafe(call.cancel)  # of no effect on one that is done
        raise


class _Call(Generic[T]):
    """A coroutine that can be cancelled before it has begun, and after. Everything here runs on the loop."""

    def __init__(self, coro: Coroutine[Any, Any, T]) -> None:
        self._coro = coro
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False

    async def run(self) -> T:
        if self._is_cancelled:
            self._coro.close()
            raise asyncio.CancelledError
        self._task = asyncio.current_task()
        return await self._coro

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()


async def _limited(coro: Coroutine[Any, Any, T], timeout: float | None) -> T:
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await coro
    except TimeoutError as error:
        if limit.expired():
            raise TimeoutError(f"the call took longer than {timeout} s") from error
        raise


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
