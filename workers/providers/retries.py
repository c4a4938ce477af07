"""When to ask a provider again: with backoff and jitter, never before it says, and never sleeping long in a worker."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar

from orchestrator.contracts.errors import TerminalError, TransientError

__all__ = ["LONGEST_SLEEP", "MalformedAnswer", "read_retry_after", "with_retries"]

T = TypeVar("T")

LONGEST_SLEEP = 5.0  # seconds; who is told to wait longer gives the worker to somebody else
_TRIES = 4
_MALFORMED_TRIES = 3  # each of them may have been paid for
_FIRST_PAUSE = 0.5  # seconds; doubled from try to try


class MalformedAnswer(TransientError):
    """The provider answered, but not what its protocol says."""


async def with_retries(call: Callable[[], Awaitable[T]], *, first_pause: float = _FIRST_PAUSE) -> T:
    """Await `call()` until it succeeds, a few times at most.

    Raises:
        TransientError: it still fails, or asks for a longer wait than `LONGEST_SLEEP`; `retry_after` says how long.
        TerminalError: the call's own; or its answers were malformed each time.
    """
    failed = malformed = 0
    while True:
        try:
            return await call()
        except TransientError as error:
            failed += 1
            malformed += isinstance(error, MalformedAnswer)
            if malformed == _MALFORMED_TRIES:
                raise TerminalError(f"{error}, {malformed} times") from None
            pause = _pause(error, failed, first_pause)
            if failed >= _TRIES or pause > LONGEST_SLEEP:
                raise
        await asyncio.sleep(pause)


def _pause(error: TransientError, failed: int, first_pause: float) -> float:
    if error.retry_after is not None:
        return error.retry_after
    backoff: float = first_pause * 2 ** (failed - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter, no secret
    return backoff


def read_retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Seconds to wait by the headers of an answer, 0 for a moment that has passed; None where they say nothing.

    Args:
        headers: `retry-after-ms` (milliseconds) goes before `retry-after` (seconds, or a date as HTTP writes it).
        now: the time to measure a date from, in seconds since the epoch.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - (time.time() if now is None else now))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
