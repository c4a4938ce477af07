"""Progress in a terminal: three lines a job, redrawn in place, that fit into 80 columns."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.contracts.report import TERMINAL_JOB_STATES, JobState
from orchestrator.ledger.reports import Progress
from orchestrator.progress import OnProgress, Pace, notes, shown_duration, shown_rate, shown_workers

__all__ = ["Board", "redrawn"]

_REDRAWS_A_SECOND = 4
_MILLION = 1_000_000


@contextmanager
def redrawn(console: Console) -> Iterator[OnProgress]:
    """A callback that shows progress on the console until the block ends; then nothing of it is left."""
    board = Board()
    with Live(get_renderable=board.drawn, console=console, refresh_per_second=_REDRAWS_A_SECOND, transient=True):
        yield board.show


@dataclass(slots=True)
class _Row:
    """One job, as it was last looked at."""

    found: Progress
    pace: Pace
    looked_at: float  # of our own clock: time goes on between two looks


class Board:
    """The jobs that are shown, in the order in which they were first looked at."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}

    def show(self, found: Progress) -> None:
        """Take what was found of a job in place of what was found before."""
        row = self._rows.get(found.job_id)
        pace = row.pace if row else Pace()
        pace.look(found)
        self._rows[found.job_id] = _Row(found, pace, time.monotonic())

    def drawn(self) -> RenderableType:
        """All jobs, as they are now."""
        rows = list(self._rows.values())  # a copy: it is drawn by a thread
        return Group(*(_drawn(row) for row in rows)) if rows else Text("reading …")


def _drawn(row: _Row) -> RenderableType:
    found, pace = row.found, row.pace
    is_done = found.state in TERMINAL_JOB_STATES
    is_reading = found.state is JobState.ENQUEUING
    seconds = found.seconds + (0.0 if is_done else time.monotonic() - row.looked_at)
    head = Table.grid(padding=(0, 1), expand=True)
    for ratio in (None, None, 1, None):
        head.add_column(ratio=ratio, no_wrap=True)
    head.add_row(
        f"job {found.job_id}",
        "reading" if is_reading else found.state.replace("_", " "),
        # How much there is, nobody knows before the source is read.
        ProgressBar(total=None if is_reading else max(found.seen, 1), completed=found.settled, pulse=is_reading),
        shown_duration(seconds),
    )
    return Group(
        head,
        _line(
            f"{found.settled:,} of {found.seen:,} documents",
            f"{_short(found.nodes)} nodes",
            shown_rate(pace),
            f"{_short(found.tokens)} tokens",
        ),
        _line(
            *([] if is_done else [f"ETA {shown_duration(pace.seconds_left)}"]),
            shown_workers(found),
            f"{found.failed:,} failed",
            *notes(found),
        ),
    )


def _line(*parts: str) -> Text:
    return Text("  " + "  ".join(parts), no_wrap=True, overflow="ellipsis")


def _short(count: int) -> str:
    """A count in few characters."""
    if count < _MILLION:
        return f"{count:,}"
    return f"{count / _MILLION:.1f}M" if count < 1000 * _MILLION else f"{count / (1000 * _MILLION):.1f}B"
