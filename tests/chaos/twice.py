"""Every message is sent twice: workers load this through DOCMILL_MODULES, the client calls `send_everything_twice`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.messaging import Producer

__all__ = ["MODULE", "send_everything_twice"]

MODULE = "tests.chaos.twice"


@contextmanager
def send_everything_twice() -> Iterator[None]:
    """What this process publishes is published twice."""
    once: Any = Producer.publish

    def twice(producer: Any, *arguments: Any, **options: Any) -> Any:
        once(producer, *arguments, **options)
        return once(producer, *arguments, **options)

    setattr(Producer, "publish", twice)  # noqa: B010 - a method of an untyped class
    try:
        yield
    finally:
        setattr(Producer, "publish", once)  # noqa: B010


if MODULE in os.environ.get("DOCMILL_MODULES", ""):
    send_everything_twice().__enter__()
