"""When a provider is asked again: what its headers say, and how often."""

import asyncio
from collections.abc import Iterator

import pytest

from orchestrator.contracts.errors import TerminalError, TransientError
from workers.providers.retries import MalformedAnswer, read_retry_after, with_retries


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds and dates are understood; what makes no sense counts as nothing said."""
    assert read_retry_after(headers, now=60.0) == seconds


def ask(outcomes: Iterator[Exception | str], asked: list[object]) -> str:
    async def call() -> str:
        outcome = next(outcomes)
        asked.append(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return asyncio.run(with_retries(call, first_pause=0.0))


def test_passing_trouble_is_tried_again() -> None:
    """A call that fails for a passing reason is made again, and its answer counts."""
    asked: list[object] = []
    busy = TransientError("busy", retry_after=0.0)
    assert ask(iter([busy, busy, MalformedAnswer("half"), "done"]), asked) == "done"
    assert len(asked) == 4


def test_trouble_that_lasts_is_handed_on() -> None:
    """After four tries the last error is raised: the batch is tried again later, and another gets the worker."""
    asked: list[object] = []
    with pytest.raises(TransientError, match="busy 3"):
        ask(iter([TransientError(f"busy {number}") for number in range(9)]), asked)
    assert len(asked) == 4


def test_a_long_wait_is_not_slept_in_the_worker() -> None:
    """Who is told to wait for more than five seconds raises at once, and says how long."""
    asked: list[object] = []
    with pytest.raises(TransientError) as caught:
        ask(iter([TransientError("busy", retry_after=5.01), "never"]), asked)
    assert (len(asked), caught.value.retry_after) == (1, 5.01)


def test_malformed_answers_end_after_three() -> None:
    """Answers that are malformed three times are terminal: each of them may have been paid for."""
    asked: list[object] = []
    with pytest.raises(TerminalError, match=r"half, 3 times"):
        ask(iter([MalformedAnswer("half")] * 9), asked)
    assert len(asked) == 3


def test_terminal_trouble_is_not_tried_again() -> None:
    """An error that trying again does not change is raised at the first try."""
    asked: list[object] = []
    with pytest.raises(TerminalError, match="no"):
        ask(iter([TerminalError("no"), "never"]), asked)
    assert len(asked) == 1
