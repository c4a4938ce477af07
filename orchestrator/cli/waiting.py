"""Waiting for a job from the command line: its progress is shown, and Ctrl-C asks what is to become of it."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from orchestrator.contracts.report import JobState

if TYPE_CHECKING:
    from orchestrator.contracts.report import Report
    from orchestrator.job import Job

__all__ = ["exit_code", "wait_for"]


def wait_for(job: "Job", *, is_shown: bool) -> "Report":
    """Wait for the job's end.

    Raises:
        KeyboardInterrupt: Ctrl-C. The job was cancelled if that was the answer; else it goes on.
    """
    from orchestrator.progress_display import shown_progress

    try:
        with shown_progress(is_shown=is_shown) as show:
            return job.wait(on_progress=show)
    except KeyboardInterrupt:
        _detach_or_cancel(job)
        raise


def exit_code(ended: Iterable[JobState]) -> int:
    """The exit code of a command that waited for jobs: 1 if one failed or was cancelled, 3 if documents failed."""
    states = set(ended)
    if states - {JobState.SUCCEEDED, JobState.SUCCEEDED_WITH_FAILURES}:
        return 1
    return 3 if JobState.SUCCEEDED_WITH_FAILURES in states else 0


def _detach_or_cancel(job: "Job") -> None:
    """Ask what is to become of the job; without a terminal to ask, it goes on."""
    answer = "d"
    if sys.stdin.isatty() and sys.stderr.isatty():
        typer.echo(f"\njob {job.id} is not finished.", err=True)
        answer = typer.prompt("[d]etach and let workers go on, or [c]ancel it?", default="d", err=True)
    if answer.strip().lower().startswith("c"):
        typer.echo(f"job {job.id}: {job.cancel()}; what is committed stays", err=True)
    else:
        typer.echo(f"job {job.id} goes on whenever workers run: docmill status {job.id}", err=True)
