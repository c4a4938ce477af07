"""A ledger that is away for a moment is asked again, for so long and no longer."""

from collections.abc import Callable

import pytest

from orchestrator.contracts.errors import ServiceUnreachable
from workers.patience import patiently


class Away:
    """A transaction on a ledger that comes back at a moment of the test's own clock."""

    def __init__(self, back_at: float) -> None:
        self.seconds = 0.0
        self.tries = 0
        self.back_at = back_at

    def clock(self) -> float:
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.seconds += seconds

    def __call__(self) -> str:
        self.tries += 1
        if self.seconds < self.back_at:
            raise ServiceUnreachable("database", "postgresql://…", "it restarts")
        return "done"


@pytest.fixture
def ask() -> Callable[[Away], str]:
    """Ask with the clock of the ledger."""
    return lambda away: patiently(away, clock=away.clock, pause=away.pause)


def test_a_restart_is_waited_out(ask: Callable[[Away], str]) -> None:
    """A ledger that is back after some seconds answers in the end."""
    assert ask(Away(back_at=4.0)) == "done"


def test_a_ledger_that_is_there_is_asked_once(ask: Callable[[Away], str]) -> None:
    """Nothing is done twice while nothing is wrong."""
    away = Away(back_at=0.0)
    ask(away)
    assert away.tries == 1


def test_patience_ends_before_the_lease_does(ask: Callable[[Away], str]) -> None:
    """After ten seconds the error surfaces: others take the batch after fifteen."""
    away = Away(back_at=60.0)
    with pytest.raises(ServiceUnreachable):
        ask(away)
    assert 10.0 <= away.seconds < 15.0


def test_other_errors_surface_at_once() -> None:
    """What will not pass is not waited for."""

    def broken() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        patiently(broken)
