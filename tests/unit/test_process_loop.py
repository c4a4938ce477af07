"""One event loop a worker process, for synchronous code that calls what is async inside."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from workers.async_utils import asyncio_run
from workers.process_loop import run_on_process_loop

_request: ContextVar[str] = ContextVar("request", default="nobody's")

_FORK = """
import asyncio, os, sys, threading
from workers.process_loop import run_on_process_loop

async def where():
    return id(asyncio.get_running_loop()), os.getpid()

if {before}:
    parent = run_on_process_loop(where())
    assert parent[1] == os.getpid()
child = os.fork()
if child == 0:
    first, second = run_on_process_loop(where(), timeout=10), run_on_process_loop(where(), timeout=10)
    threads = [thread.name for thread in threading.enumerate()].count("docmill-loop")
    os._exit(0 if first == second and first[1] == os.getpid() and threads == 1 else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
again = run_on_process_loop(where(), timeout=10)
assert again[1] == os.getpid()
assert not {before} or again == parent
sys.exit(status)
"""


async def _loop() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


def test_all_calls_share_one_loop() -> None:
    """Calls of many threads, at once and one after another, run on the same loop in one daemon thread."""
    with ThreadPoolExecutor(8) as pool:
        loops = set(pool.map(lambda _: run_on_process_loop(_loop()), range(64)))
    loops.add(run_on_process_loop(_loop()))
    assert len(loops) == 1
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "docmill-loop"]
    assert thread.daemon


def test_calls_run_at_once() -> None:
    """A call that waits does not keep the others waiting."""
    release = asyncio.Event()

    async def wait() -> str:
        await release.wait()
        return "released"

    async def open_it() -> None:
        release.set()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(run_on_process_loop, wait(), 5.0)
        run_on_process_loop(open_it())
        assert waiting.result(5) == "released"


def test_inside_another_loop_it_works_too() -> None:
    """Synchronous code that a loop of somebody else called may run a coroutine on the process's loop."""

    async def outer() -> bool:
        return run_on_process_loop(_loop()) is not asyncio.get_running_loop()

    assert asyncio_run(outer())


def test_the_coroutine_sees_the_callers_context() -> None:
    """Context variables of the calling thread are seen by the coroutine."""

    async def look() -> str:
        return _request.get()

    token = _request.set("number 7")
    assert run_on_process_loop(look()) == "number 7"
    _request.reset(token)
    assert run_on_process_loop(look()) == "nobody's"


@pytest.mark.parametrize("failure", [RuntimeError("out of paper"), asyncio.CancelledError(), SystemExit(3)])
def test_errors_surface_and_the_loop_lives_on(failure: BaseException) -> None:
    """What a coroutine raises is raised by the call, and the loop serves the next one."""

    async def fail() -> None:
        raise failure

    before = run_on_process_loop(_loop())
    with pytest.raises((RuntimeError, CancelledError, SystemExit)) as caught:
        run_on_process_loop(fail(), timeout=5)
    # A future of asyncio tells of a cancelled task by the CancelledError of concurrent.futures.
    assert type(caught.value).__name__ == type(failure).__name__
    assert run_on_process_loop(_loop(), timeout=5) is before


def test_a_call_that_takes_too_long_is_cancelled() -> None:
    """After `timeout` seconds the coroutine is cancelled, and the TimeoutError names the limit."""
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError, match=r"longer than 0\.001 s"):
        run_on_process_loop(wait(), timeout=0.001)
    assert cancelled.is_set()


def test_a_wait_that_is_broken_off_cancels_the_coroutine() -> None:
    """When the waiting thread is interrupted, as by Celery's soft time limit, the coroutine is cancelled."""
    program = """
import asyncio, os, signal, threading
from workers.process_loop import run_on_process_loop
cancelled = threading.Event()
async def wait():
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await asyncio.Event().wait()
    finally:
        cancelled.set()
try:
    run_on_process_loop(wait())
except KeyboardInterrupt:
    print("interrupted", cancelled.wait(5))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["interrupted", "True"]


@pytest.mark.filterwarnings("error")
def test_waiting_for_itself_is_refused() -> None:
    """A coroutine on the process's loop that calls in again is refused at once, instead of waiting for ever."""

    async def again() -> None:
        run_on_process_loop(_loop())

    with pytest.raises(RuntimeError, match="await the coroutine instead"):
        run_on_process_loop(again(), timeout=5)


@pytest.mark.parametrize("before", [False, True])
def test_a_forked_child_has_a_loop_of_its_own(before: bool) -> None:
    """After a fork the child makes its own loop, whether the parent had one or not, and the parent's goes on."""
    done = subprocess.run(
        [sys.executable, "-c", _FORK.format(before=before)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
