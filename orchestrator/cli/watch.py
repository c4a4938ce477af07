"""`docmill status --watch`: follows jobs until they end. It only looks: Ctrl-C ends the watching, and nothing else."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import typer
from rich.console import Console

from orchestrator.connections import Connections
from orchestrator.contracts.report import TERMINAL_JOB_STATES, JobState
from orchestrator.ledger import jobs, reports
from orchestrator.ledger.engine import reading
from orchestrator.ledger.reports import Progress
from orchestrator.progress import OnProgress, Pace, progress_line, progress_object
from orchestrator.progress_board import redrawn

__all__ = ["watch"]

_LOOK_EVERY_SECONDS = 1.0


def watch(connections: Connections, job_id: str | None, *, as_json: bool) -> dict[str, JobState]:
    """Show a job, or all jobs that are not finished, until they end; returns how each of them did.

    Raises:
        JobNotFound: the ledger does not know the job.
        KeyboardInterrupt: Ctrl-C; the jobs go on.
    """
    console = Console()
    ended = {}
    try:
        with _shown(console, as_json=as_json) as show:
            for found in _looks(connections, job_id):
                show(found)
                if found.state in TERMINAL_JOB_STATES:
                    ended[found.job_id] = found.state
    except KeyboardInterrupt:
        typer.echo("no longer watching; nothing was stopped", err=True)
        raise
    return ended


def _looks(connections: Connections, job_id: str | None) -> Iterator[Progress]:
    """The progress of each job that is watched, about once a second, the last time when it has ended."""
    watched = [] if job_id is None else [job_id]
    while True:
        with reading(connections.engine) as connection:
            if job_id is None:
                watched += [id for id in jobs.unfinished(connection) if id not in watched]
            found = [reports.progress(connection, id) for id in watched]
        yield from found
        watched = [progress.job_id for progress in found if progress.state not in TERMINAL_JOB_STATES]
        if not watched:
            return
        time.sleep(_LOOK_EVERY_SECONDS)


def _shown(console: Console, *, as_json: bool) -> AbstractContextManager[OnProgress]:
    """Redrawn in place in a terminal; elsewhere a line a change."""
    if as_json:
        return nullcontext(_on_change(lambda found, pace: json.dumps(progress_object(found, pace))))
    return redrawn(console) if console.is_terminal else nullcontext(_on_change(progress_line))


def _on_change(said: Callable[[Progress, Pace], str]) -> OnProgress:
    paces: dict[str, Pace] = {}
    before: dict[str, Any] = {}

    def show(found: Progress) -> None:
        pace = paces.setdefault(found.job_id, Pace())
        pace.look(found)
        timeless = replace(found, seconds=0.0)
        if before.get(found.job_id) != timeless:
            before[found.job_id] = timeless
            typer.echo(said(found, pace))

    return show
