"""Progress of a job while one waits: a bar in a terminal, a plain line now and then where it is piped."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.contracts.report import BatchState, JobState

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.ledger.reports import Progress as JobProgress

__all__ = ["OnProgress", "shown_progress"]

OnProgress: TypeAlias = Callable[["JobProgress"], None]

_LINE_EVERY_SECONDS = 5.0
_WORKED_ON = {BatchState.RUNNING, BatchState.TRANSFORMED, BatchState.RETRYING}


@contextmanager
def shown_progress(is_shown: bool, on_progress: OnProgress | None = None) -> Iterator[OnProgress | None]:
    """A callback that shows progress on stderr and passes it on to `on_progress`; None if nobody wants to know."""
    if not is_shown:
        yield on_progress
        return
    from rich.console import Console

    console = Console(stderr=True)
    with _bar(console) if console.is_terminal else nullcontext(_lines(console)) as show:

        def tell(found: "JobProgress") -> None:
            show(found)
            if on_progress is not None:
                on_progress(found)

        yield tell


@contextmanager
def _bar(console: "Console") -> Iterator[OnProgress]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[details]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=None, details="")

        def show(found: "JobProgress") -> None:
            what = "reading" if found.state is JobState.ENQUEUING else "documents"
            progress.update(
                task, description=what, total=found.seen or None, completed=found.settled, details=_details(found)
            )

        yield show


def _lines(console: "Console") -> OnProgress:
    last = time.monotonic()

    def show(found: "JobProgress") -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_SECONDS:
            last = time.monotonic()
            console.print(
                f"{found.settled:,} of {found.seen:,} documents, {_details(found)}", highlight=False, soft_wrap=True
            )

    return show


def _details(found: "JobProgress") -> str:
    parts = [f"{found.nodes:,} nodes"]
    if found.paused:
        parts.append("paused")
    elif found.batches.get(BatchState.WAITING) and not found.batches.keys() & _WORKED_ON:
        parts.append("waiting for a worker")
    if found.failed:
        parts.append(f"{found.failed:,} failed")
    if found.reasons:
        parts.append(f"retrying: {found.reasons[0][:40]}")
    return ", ".join(parts)
