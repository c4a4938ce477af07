"""Spending: what is paid within a block is heard of, wherever it is paid, and no more than the budget allows."""

import asyncio
from threading import Thread

import pytest

from orchestrator.contracts.errors import TokenBudgetExceeded
from orchestrator.ledger.payments import Cost, Payment
from workers.chain import BatchBill
from workers.process_loop import run_on_process_loop
from workers.tokens.spending import Source, Spending, about_to_spend, collecting, spending_for, spent
from workers.tokens.usage import TokenUsage

_MODEL = "openai/small"


def test_blocks_hear_what_is_spent_within_them() -> None:
    """Each block hears of what is spent within it, inner blocks' too, and of nothing before or after."""
    spent(_MODEL, TokenUsage(prompt=1))
    with collecting() as outer:
        spent(_MODEL, TokenUsage(prompt=2, completion=1))
        with collecting() as inner:
            spent(_MODEL, TokenUsage(embedding=5))
        spent(_MODEL, TokenUsage(prompt=3))
    spent(_MODEL, TokenUsage(prompt=100))
    assert inner.total == TokenUsage(embedding=5)
    assert outer.total == TokenUsage(prompt=5, completion=1, embedding=5)


def test_tasks_on_the_process_loop_are_heard() -> None:
    """What tasks spend on the loop of the process is heard by the block that started them, and by no other thread's."""

    async def pay() -> None:
        async def one() -> None:
            await asyncio.sleep(0)
            spent(_MODEL, TokenUsage(completion=1))

        await asyncio.gather(*(one() for _ in range(50)))

    sources: list[dict[Source, TokenUsage]] = []

    def work(name: str) -> None:
        with collecting() as spending, spending_for(name):
            run_on_process_loop(pay())
        sources.append(spending.by_source)

    threads = [Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sources.sort(key=str)
    assert sources == [{Source(_MODEL, str(number), False): TokenUsage(completion=50)} for number in range(4)]


def test_the_bill_has_what_was_spent_before_a_failure() -> None:
    """A step that fails after it has paid leaves its cost on the bill, by model and step, estimates apart."""
    bill = BatchBill()
    with pytest.raises(RuntimeError), collecting(bill.spending):
        with spending_for("title_extractor"):
            spent(_MODEL, TokenUsage(prompt=7, completion=2, cached=5))
            spent(_MODEL, TokenUsage(prompt=1, estimated=True))
            spent("openai/silent", TokenUsage())
        with spending_for("embed"):
            spent("hashed", TokenUsage(embedding=4, estimated=True))
            raise RuntimeError("after paying")
    assert bill.cost == Cost(
        [
            Payment(_MODEL, "title_extractor", False, prompt=7, completion=2, cached=5),
            Payment(_MODEL, "title_extractor", True, prompt=1),
            Payment("hashed", "embed", True, embedding=4),
        ]
    )


def test_a_budget_refuses_what_it_has_not_left() -> None:
    """A call is refused before it is made if budget, what others spent and what was spent here leave too little."""
    with collecting(Spending(budget=100, before=60)), collecting():
        about_to_spend(lambda: 40)
        spent(_MODEL, TokenUsage(prompt=20, completion=5, embedding=5))
        about_to_spend(lambda: 10)
        with pytest.raises(TokenBudgetExceeded, match="budget of 100 tokens is exceeded: 90 are spent, and 11 more"):
            about_to_spend(lambda: 11)
        spent(_MODEL, TokenUsage(completion=300))
        with pytest.raises(TokenBudgetExceeded, match="390 are spent"):
            about_to_spend(lambda: 1)
    about_to_spend(lambda: 1)


def test_without_a_budget_nothing_is_counted_beforehand() -> None:
    """Where there is no budget, nobody is asked how much a call will cost."""
    with collecting():
        about_to_spend(lambda: pytest.fail("counted for nothing"))
