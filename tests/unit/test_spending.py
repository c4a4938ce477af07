"""Spending: what is paid within a block is heard of, wherever it is paid."""

import asyncio
from threading import Thread

import pytest

from workers.chain import Usage as Bill
from workers.process_loop import run_on_process_loop
from workers.tokens.spending import collecting, spent
from workers.tokens.usage import Usage


def test_blocks_hear_what_is_spent_within_them() -> None:
    """Each block hears of what is spent within it, inner blocks' too, and of nothing before or after."""
    spent(Usage(prompt=1))
    with collecting() as outer:
        spent(Usage(prompt=2, completion=1))
        with collecting() as inner:
            spent(Usage(embedding=5))
        spent(Usage(prompt=3))
    spent(Usage(prompt=100))
    assert inner.total == Usage(embedding=5)
    assert outer.total == Usage(prompt=5, completion=1, embedding=5)


def test_tasks_on_the_process_loop_are_heard() -> None:
    """What tasks spend on the loop of the process is heard by the block that started them, and by no other thread's."""

    async def pay() -> None:
        async def one() -> None:
            await asyncio.sleep(0)
            spent(Usage(completion=1))

        await asyncio.gather(*(one() for _ in range(50)))

    totals: list[int] = []

    def work() -> None:
        with collecting() as spending:
            run_on_process_loop(pay())
        totals.append(spending.total.completion)

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == [50] * 4


def test_the_bill_has_what_was_spent_before_a_failure() -> None:
    """A step that fails after it has paid leaves its cost on the bill of the batch."""
    bill = Bill()
    with pytest.raises(RuntimeError), bill.collected():
        spent(Usage(prompt=7, completion=2))
        spent(Usage(embedding=4))
        raise RuntimeError("after paying")
    assert (bill.tokens_prompt, bill.tokens_completion, bill.tokens_embedding) == (7, 2, 4)
