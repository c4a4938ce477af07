"""Async helpers: bounded, in order, and nothing left running behind a failure. What waits here waits for an event."""

import asyncio
import gc
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing
from contextvars import ContextVar
from inspect import CORO_CLOSED, getcoroutinestate
from threading import current_thread
from typing import Any

import pytest

from orchestrator.contracts.errors import ConfigurationError
from workers.async_utils import as_completed, asyncio_run, batch_gather, chunks, run_async_tasks, run_jobs

_SOON = 5.0  # seconds after which a test that hangs is told so
_request: ContextVar[str] = ContextVar("request", default="nobody's")


async def _value(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def _fail(message: str) -> int:
    await asyncio.sleep(0)
    raise RuntimeError(message)


class _Sleepers:
    """Jobs that wait until they are cancelled, and say how they ended."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0

    async def job(self) -> int:
        self.started += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # closing a connection takes a moment; it must have been awaited
            self.cancelled += 1
            raise
        return 0

    async def cancel(self, call: Callable[[], Coroutine[Any, Any, object]], once_started: int) -> None:
        """Cancel a call once so many of its jobs wait."""
        caller = asyncio.create_task(call())
        while self.started < once_started:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller


def _run(coro: Awaitable[object]) -> object:
    async def main() -> object:
        async with asyncio.timeout(_SOON):
            return await coro

    return asyncio.run(main())


async def _inside(function: Callable[[], object]) -> object:
    """Call a synchronous function where a loop runs."""
    return function()


# asyncio_run


def test_a_coroutine_runs_from_synchronous_code() -> None:
    """asyncio_run returns what a coroutine returns, where no loop runs and inside one that does."""
    assert asyncio_run(_value(3)) == 3
    assert _run(_inside(lambda: asyncio_run(_value(4)))) == 4


def test_asyncio_run_nests_as_often_as_it_is_called() -> None:
    """Inside a coroutine of asyncio_run, asyncio_run works again."""

    async def nested(depth: int) -> int:
        return depth if depth == 3 else asyncio_run(nested(depth + 1))

    assert asyncio_run(nested(0)) == 3


@pytest.mark.parametrize("running", [False, True])
def test_a_runtime_error_of_the_coroutine_surfaces_as_itself(running: bool) -> None:
    """A RuntimeError that a coroutine raises is raised as it is, inside a running loop too."""
    failure = RuntimeError("out of paper")

    async def fail() -> None:
        raise failure

    with pytest.raises(RuntimeError, match="out of paper") as caught:
        if running:
            _run(_inside(lambda: asyncio_run(fail())))
        else:
            asyncio_run(fail())
    assert caught.value is failure


def test_inside_a_loop_a_thread_sees_the_callers_context() -> None:
    """Inside a running loop the coroutine runs in another thread, with the context variables of the caller."""

    async def look() -> tuple[str, str]:
        return _request.get(), current_thread().name

    async def caller() -> tuple[str, str]:
        _request.set("number 7")
        return asyncio_run(look())

    request, thread = asyncio.run(caller())
    assert request == "number 7"
    assert thread != current_thread().name


def test_no_loop_is_patched_and_no_bar_is_loaded() -> None:
    """Running jobs inside a running loop loads neither nest_asyncio nor, without progress, rich."""
    program = """
import asyncio, sys
from workers.async_utils import asyncio_run, run_async_tasks
async def one(): return 1
async def main(): return asyncio_run(one()) + sum(run_async_tasks([one(), one()]))
print(asyncio.run(main()), {"nest_asyncio", "rich", "tqdm"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3 set()"


# run_jobs


def test_results_come_in_the_order_of_the_input() -> None:
    """run_jobs returns results in the order of the input, whichever job finishes first."""

    async def main() -> list[int]:
        last_is_done = asyncio.Event()

        async def first() -> int:
            await last_is_done.wait()
            return 0

        async def last() -> int:
            last_is_done.set()
            return 2

        return await run_jobs([first(), _value(1), last()], workers=3)

    assert _run(main()) == [0, 1, 2]
    assert asyncio.run(run_jobs([])) == []


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_concurrency_is_bounded(workers: int) -> None:
    """No more than `workers` jobs run at once, and as many as that do."""
    running, peak = 0, 0

    async def job() -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1

    asyncio.run(run_jobs([job() for _ in range(50)], workers))
    assert peak == workers


def test_four_workers_are_the_default() -> None:
    """run_jobs runs four jobs at once if it is not told otherwise."""
    sleepers = _Sleepers()

    _run(sleepers.cancel(lambda: run_jobs(sleepers.job() for _ in range(10)), once_started=4))
    assert sleepers.started == 4


def test_jobs_are_made_as_workers_get_free() -> None:
    """An iterable is read lazily: twenty thousand jobs make `workers` tasks, and exist one by one."""
    made = finished = most_waiting = most_tasks = 0
    created: list[object] = []

    async def job() -> None:
        nonlocal finished, most_tasks
        most_tasks = max(most_tasks, len(asyncio.all_tasks()))
        finished += 1

    def jobs() -> Iterator[Awaitable[None]]:
        nonlocal made, most_waiting
        for _ in range(20_000):
            made += 1
            most_waiting = max(most_waiting, made - finished)
            yield job()

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        created.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        await run_jobs(jobs(), workers=3)
        assert len(created) == 3

    asyncio.run(main())
    assert finished == 20_000
    assert most_waiting <= 3
    assert most_tasks == 4  # the workers, and the one that awaits them


def test_memory_does_not_grow_with_the_number_of_jobs() -> None:
    """Reading results as they finish takes the same memory for ten thousand jobs as for a thousand."""

    async def count(jobs: int) -> int:
        found = 0
        async for _ in as_completed(_value(index) for index in range(jobs)):
            found += 1
        return found

    peaks = []
    for jobs in (1_000, 10_000):
        gc.collect()
        tracemalloc.start()
        assert asyncio.run(count(jobs)) == jobs
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5


def test_the_first_failure_cancels_and_awaits_the_siblings() -> None:
    """When a job fails, the others are cancelled and over before its error is raised, as it is."""
    sleepers = _Sleepers()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="out of paper"):
            await run_jobs([sleepers.job(), sleepers.job(), _fail("out of paper"), sleepers.job()], workers=3)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert (sleepers.started, sleepers.cancelled) == (2, 2)


@pytest.mark.filterwarnings("error")
def test_jobs_that_never_started_are_closed() -> None:
    """After a failure the coroutines that were never started are closed, and a generator makes no more of them."""
    made = 0

    def jobs() -> Iterator[Awaitable[int]]:
        nonlocal made
        for _ in range(100):
            made += 1
            yield _fail("at once")

    rest = [_value(index) for index in range(50)]
    for source in ([_fail("at once"), *rest], jobs()):
        with pytest.raises(RuntimeError, match="at once"):
            asyncio.run(run_jobs(source, workers=2))
    assert {getcoroutinestate(job) for job in rest} == {CORO_CLOSED}
    assert made <= 2
    gc.collect()  # a coroutine that was never awaited would warn here


def test_futures_that_were_handed_in_are_cancelled_too() -> None:
    """After a failure tasks that run already, and whose turn has not come, are cancelled and awaited as well."""
    sleepers = _Sleepers()

    async def main() -> None:
        tasks = [asyncio.create_task(sleepers.job()) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="out of paper"):
            await run_jobs([_fail("out of paper"), *tasks], workers=1)
        assert all(task.cancelled() for task in tasks)

    asyncio.run(main())
    assert sleepers.cancelled == 3


def test_cancelling_the_caller_cancels_and_awaits_the_jobs() -> None:
    """When whoever awaits run_jobs is cancelled, the jobs are cancelled and over before it is."""
    sleepers = _Sleepers()

    _run(sleepers.cancel(lambda: run_jobs((sleepers.job() for _ in range(9)), workers=3), once_started=3))
    assert (sleepers.started, sleepers.cancelled) == (3, 3)


def test_a_job_that_ignores_cancelling_begins_no_other() -> None:
    """A job that swallows its cancelling is awaited, and its worker takes no further job."""
    begun = 0

    async def stubborn(go_on: asyncio.Event) -> int:
        nonlocal begun
        begun += 1
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return 0

    async def main() -> None:
        go_on = asyncio.Event()
        jobs = (stubborn(go_on) if index else _fail("out of paper") for index in range(20))
        with pytest.raises(RuntimeError, match="out of paper"):
            await run_jobs(jobs, workers=2)

    _run(main())
    assert begun == 1


@pytest.mark.parametrize("reach", ["raise", "cancel"])
def test_a_job_that_cancels_itself_is_a_failure(reach: str) -> None:
    """A CancelledError that is a job's own ends the call, and never makes it wait for ever."""

    async def cancelled() -> int:
        if reach == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        raise asyncio.CancelledError("mine")

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await run_jobs([cancelled(), *(_value(index) for index in range(9))], workers=2)
        results = await run_jobs([cancelled(), _value(1), _value(2)], workers=1, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [1, 2]

    _run(main())


def test_an_error_of_what_makes_the_jobs_is_raised() -> None:
    """An error of the iterable itself cancels the jobs that run, and is raised, whatever is done with jobs' own."""
    sleepers = _Sleepers()

    def jobs() -> Iterator[Awaitable[int]]:
        yield sleepers.job()
        raise OSError("the list cannot be read")

    with pytest.raises(OSError, match="the list cannot be read"):
        _run(run_jobs(jobs(), workers=2, return_exceptions=True))
    assert sleepers.cancelled == sleepers.started


def test_exceptions_can_be_results() -> None:
    """With return_exceptions, what a job raised stands in its place, and all others run."""
    results = asyncio.run(run_jobs([_value(0), _fail("one"), _value(2), _fail("three")], return_exceptions=True))
    assert [results[0], str(results[1]), results[2], str(results[3])] == [0, "one", 2, "three"]
    assert isinstance(results[1], RuntimeError)


def test_each_job_has_its_own_time_limit() -> None:
    """A job that takes longer than `timeout` is cancelled, and the TimeoutError names it and the limit."""
    sleepers = _Sleepers()
    with pytest.raises(TimeoutError, match=r"job 1 took longer than 0\.001 s"):
        _run(run_jobs([_value(0), sleepers.job()], timeout=0.001))
    results = asyncio.run(run_jobs([sleepers.job(), _value(1)], timeout=0.001, return_exceptions=True))
    assert isinstance(results[0], TimeoutError)
    assert results[1] == 1
    assert sleepers.cancelled == 2


def test_a_timeout_of_the_job_itself_is_its_own() -> None:
    """A TimeoutError that a job raises within its time limit is raised as it is."""

    async def read() -> int:
        raise TimeoutError("the socket's own")

    with pytest.raises(TimeoutError, match="the socket's own"):
        asyncio.run(run_jobs([read()], timeout=60))


@pytest.mark.parametrize("workers", [0, -1, 2.5, True, "4", None])
def test_workers_below_one_are_refused(workers: int) -> None:
    """`workers` below 1 is a ValueError that names the value and the allowed range, and no job is made."""
    made: list[int] = []

    def make() -> Iterator[Awaitable[int]]:
        for number in range(3):
            made.append(number)
            yield _value(number)

    jobs = make()
    with pytest.raises(ValueError, match=rf"workers must be a whole number from 1 on, not {workers!r}") as caught:
        asyncio.run(run_jobs(jobs, workers=workers))
    assert isinstance(caught.value, ConfigurationError)
    with pytest.raises(ValueError, match="workers must be a whole number from 1 on"):
        run_async_tasks(jobs, workers=workers)
    with pytest.raises(ValueError, match="workers must be a whole number from 1 on"):
        as_completed(jobs, workers)
    assert made == []


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_a_timeout_of_nothing_is_refused(timeout: float) -> None:
    """A `timeout` of 0 or less is a ValueError that names the value and the allowed range."""
    with pytest.raises(ValueError, match=rf"timeout must be more than 0 seconds.*not {timeout!r}"):
        asyncio.run(run_jobs((_value(1) for _ in range(3)), timeout=timeout))


def test_progress_is_drawn_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """With show_progress a bar with its description goes to standard error, and nothing to standard output."""
    assert asyncio.run(run_jobs([_value(1), _value(2)], show_progress=True, desc="Asking")) == [1, 2]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Asking" in printed.err
    assert "100%" in printed.err
    asyncio.run(run_jobs([_value(1)]))
    assert capsys.readouterr().err == ""


# run_async_tasks


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("progress", [False, True])
def test_the_synchronous_face_does_the_same(running: bool, progress: bool) -> None:
    """run_async_tasks returns results in order, with progress or without, inside a running loop or outside."""

    def call() -> list[int]:
        return run_async_tasks([_value(1), _value(2), _value(3)], show_progress=progress, progress_bar_desc="Asking")

    assert (_run(_inside(call)) if running else call()) == [1, 2, 3]


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("progress", [False, True])
def test_an_error_is_not_swallowed_and_nothing_runs_twice(running: bool, progress: bool) -> None:
    """An error of a task is raised, with progress or without, and the side effects happened once."""
    paid: list[int] = []

    async def pay(number: int) -> int:
        paid.append(number)
        if number == 2:
            raise RuntimeError("out of money")
        return number

    def call() -> None:
        run_async_tasks([pay(number) for number in range(3)], show_progress=progress, workers=1)

    with pytest.raises(RuntimeError, match="out of money"):
        if running:
            _run(_inside(call))
        else:
            call()
    assert paid == [0, 1, 2]


# batch_gather


def test_one_batch_follows_the_other() -> None:
    """batch_gather begins a batch when the one before is over, and returns results in the order of the input."""
    log: list[str] = []

    async def task(number: int) -> int:
        log.append(f"begin {number}")
        for _ in range(3 - number % 2):
            await asyncio.sleep(0)
        log.append(f"end {number}")
        return number

    assert asyncio.run(batch_gather((task(number) for number in range(5)), batch_size=2)) == [0, 1, 2, 3, 4]
    assert log == ["begin 0", "begin 1", "end 1", "end 0", "begin 2", "begin 3", "end 3", "end 2", "begin 4", "end 4"]


def test_ten_tasks_are_a_batch_by_default() -> None:
    """batch_gather awaits ten tasks at once if it is not told otherwise, and needs no padding for the rest."""
    running, peak = 0, 0

    async def task(number: int) -> int | None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1
        return number if number % 2 else None

    results = asyncio.run(batch_gather([task(number) for number in range(25)]))
    assert results == [number if number % 2 else None for number in range(25)]
    assert peak == 10


@pytest.mark.filterwarnings("error")
def test_a_failing_batch_is_the_last() -> None:
    """When a task fails its batch is cancelled and awaited, the error raised, and no further batch begun."""
    sleepers = _Sleepers()
    rest = [_value(number) for number in range(5)]

    async def main() -> None:
        with pytest.raises(RuntimeError, match="out of paper"):
            await batch_gather([sleepers.job(), _fail("out of paper"), *rest], batch_size=2)

    asyncio.run(main())
    assert sleepers.cancelled == 1
    assert {getcoroutinestate(task) for task in rest} == {CORO_CLOSED}


@pytest.mark.parametrize("size", [0, -3])
def test_a_batch_size_below_one_is_refused(size: int) -> None:
    """`batch_size` below 1 is a ValueError that names the value and the allowed range."""
    with pytest.raises(ValueError, match=f"batch_size must be a whole number from 1 on, not {size}"):
        asyncio.run(batch_gather((_value(1) for _ in range(3)), batch_size=size))


def test_batches_are_reported_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """With verbose, batch_gather says after each batch how many tasks are done."""
    asyncio.run(batch_gather([_value(number) for number in range(5)], batch_size=2, verbose=True))
    assert capsys.readouterr().err.splitlines() == ["2 tasks done", "4 tasks done", "5 tasks done"]


# chunks


def test_chunks_are_slices_without_padding() -> None:
    """chunks yields slices in order; the last is shorter instead of padded with None."""
    assert list(chunks(range(7), 3)) == [(0, 1, 2), (3, 4, 5), (6,)]
    assert list(chunks([None, None, None], 2)) == [(None, None), (None,)]
    assert list(chunks([], 2)) == []


def test_chunks_are_read_lazily() -> None:
    """chunks reads its iterable slice by slice."""
    numbers = iter(range(100))
    assert next(chunks(numbers, 10)) == tuple(range(10))
    assert next(numbers) == 10


@pytest.mark.parametrize("size", [0, -1])
def test_a_chunk_size_below_one_is_refused(size: int) -> None:
    """`size` below 1 is a ValueError that names the value and the allowed range, at the call."""
    with pytest.raises(ValueError, match=f"size must be a whole number from 1 on, not {size}"):
        chunks([1], size)


# as_completed


def test_results_come_as_they_finish() -> None:
    """as_completed yields each result with its place in the input as soon as it is there."""

    async def main() -> list[tuple[int, str]]:
        second_is_out = asyncio.Event()

        async def slow() -> str:
            await second_is_out.wait()
            return "slow"

        async def fast() -> str:
            return "fast"

        found = []
        async for index, result in as_completed([slow(), fast()], workers=2):
            found.append((index, result))
            second_is_out.set()
        return found

    assert _run(main()) == [(1, "fast"), (0, "slow")]


def test_a_slow_reader_holds_the_jobs_back() -> None:
    """While nobody reads, at most twice `workers` jobs are begun."""
    begun = 0

    async def job() -> None:
        nonlocal begun
        begun += 1

    async def main() -> int:
        async with aclosing(as_completed((job() for _ in range(1000)), workers=3)) as results:
            await anext(results)
            for _ in range(100):
                await asyncio.sleep(0)
        return begun

    assert asyncio.run(main()) <= 1 + 2 * 3


def test_a_reader_that_leaves_takes_the_jobs_along() -> None:
    """Leaving the loop early cancels and awaits what still runs."""
    sleepers = _Sleepers()

    async def main() -> None:
        results: AsyncGenerator[tuple[int, int], None]
        async with aclosing(as_completed([_value(0), sleepers.job(), sleepers.job()], workers=3)) as results:
            async for _ in results:
                break
        assert asyncio.all_tasks() == {asyncio.current_task()}

    _run(main())
    assert sleepers.cancelled == sleepers.started == 2


def test_a_reader_that_never_closes_does_not_hang_the_loop() -> None:
    """A loop that ends while results are unread ends nevertheless."""
    kept: list[object] = []

    async def main() -> int:
        results = as_completed((_value(index) for index in range(100)), workers=3)
        kept.append(results)
        async for _, result in results:
            return result
        return -1

    assert _run(main()) == 0


def test_failures_can_be_read_as_they_come() -> None:
    """as_completed raises the first failure, or with return_exceptions yields it in its turn."""

    async def main() -> list[tuple[int, str]]:
        with pytest.raises(RuntimeError, match="two"):
            async for _ in as_completed([_value(0), _fail("two")]):
                pass
        jobs = [_value(0), _fail("two")]
        return sorted([(index, str(result)) async for index, result in as_completed(jobs, return_exceptions=True)])

    assert _run(main()) == [(0, "0"), (1, "two")]
