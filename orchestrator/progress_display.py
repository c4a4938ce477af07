"""Where the progress of a call is shown: redrawn in a terminal, as lines elsewhere, and by the caller's callback."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.progress import OnProgress, Pace, progress_line

if TYPE_CHECKING:
    from orchestrator.ledger.reports import Progress

__all__ = ["shown_progress"]

_LINE_EVERY_SECONDS = 5.0


@contextmanager
def shown_progress(is_shown: bool, on_progress: OnProgress | None = None) -> Iterator[OnProgress | None]:
    """A callback that shows progress on stderr and passes it on to `on_progress`; None if nobody wants to know.

    In a terminal it is redrawn in place; elsewhere there is a line every few seconds.
    """
    if not is_shown:
        yield on_progress
        return
    from rich.console import Console

    from orchestrator.progress_board import redrawn

    console = Console(stderr=True)
    with redrawn(console) if console.is_terminal else _lines(console) as show:

        def tell(found: "Progress") -> None:
            show(found)
            if on_progress is not None:
                on_progress(found)

        yield tell


@contextmanager
def _lines(console: Any) -> Iterator[OnProgress]:
    pace = Pace()
    last = time.monotonic()

    def show(found: "Progress") -> None:
        nonlocal last
        pace.look(found)
        if time.monotonic() - last >= _LINE_EVERY_SECONDS:
            last = time.monotonic()
            console.print(progress_line(found, pace), highlight=False, markup=False, soft_wrap=True)

    yield show
