"""Outage: for how long a cache that failed is left alone, and how often that is said."""

import time
from collections.abc import Callable

from orchestrator.contracts.addresses import redacted
from orchestrator.contracts.logs import get_logger

__all__ = ["Outage"]

_PAUSE_SECONDS = 5.0  # after a failure nobody asks for so long, or every call would wait for its timeout
_LOG_SECONDS = 60.0  # between two warnings

_log = get_logger(__name__)


class Outage:
    """A cache is no reason for work to fail: when its server fails, one goes without it for some seconds.

    Args:
        url: of the server; shown without its password.
        clock: seconds that only grow.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = redacted(url)
        self._clock = clock
        self._until = float("-inf")
        self._silent_until = float("-inf")

    @property
    def lasts(self) -> bool:
        """The server failed so lately that it is not worth asking."""
        return self._clock() < self._until

    def begin(self, error: Exception) -> None:
        """The server has failed: leave it alone for a while. A warning is logged once a minute."""
        now = self._clock()
        self._until = now + _PAUSE_SECONDS
        if now >= self._silent_until:
            self._silent_until = now + _LOG_SECONDS
            _log.warning("cache does not answer; working without it", address=self._address, error=error)
