"""Lets Python sleep under libfaketime, by way of DOCMILL_MODULES.

Python 3.11 sleeps by clock_nanosleep until a moment of the monotonic clock, which libfaketime 0.9.10 answers with
EINVAL; select takes a duration, and is left alone.
"""

import os
import select
import time
from typing import SupportsIndex

__all__ = ["MODULE"]

MODULE = "tests.chaos.faketime"


def _sleep(seconds: float | SupportsIndex) -> None:
    select.select([], [], [], float(seconds))


if MODULE in os.environ.get("DOCMILL_MODULES", ""):
    time.sleep = _sleep
