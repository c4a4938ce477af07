"""`docmill retry`: the failed documents of a job, once more."""

from typing import Annotated

import typer

from orchestrator.cli.options import AsJson, JobId

__all__ = ["register"]

_SHOWN = 1000  # documents listed at most


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(retry)


def retry(
    job: JobId,
    only_failed: Annotated[
        bool, typer.Option("--only-failed", help="Do not mind documents of batches that ended with the job.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Worker processes to run for this command.  [embedded: one a core]")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the job's end, or leave it to workers.")] = (
        True
    ),
    as_json: AsJson = False,
) -> None:
    """Try the failed documents of a job again, in a new job, and say which cannot be."""
    from orchestrator.cli.show import print_json, print_report, report_object
    from orchestrator.cli.waiting import wait_for
    from orchestrator.contracts.report import JobState
    from orchestrator.job import Job
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings

    with Runtime(load_settings(), workers=workers if wait else workers or 0) as runtime:
        old = Job(runtime.connections, job)
        left = old.remainder
        dropped = 0 if only_failed else left.dropped
        refused = [row.document_id for row in old.failures(_SHOWN) if not row.can_retry] if left.not_kept else []
        not_retried = {"documents": refused, "not_kept": left.not_kept, "dropped": dropped}
        if not as_json:
            _show_not_retried(job, refused, left.not_kept, dropped)
        if not (left.kept or left.not_kept or dropped):
            none = f"job {job} has no failed documents"
            print_json({"retry_of": job, "job_id": None}) if as_json else typer.echo(none, err=True)
            return
        new = old.retry_failed()
        about = {"retry_of": job, "not_retried": not_retried}
        if not wait:
            print_json({"job_id": new.id, **about}) if as_json else typer.echo(new.id)
            return
        report = wait_for(new, is_shown=not as_json)
        print_json({**report_object(report), **about}) if as_json else print_report(report)
    if report.state not in (JobState.SUCCEEDED, JobState.SUCCEEDED_WITH_FAILURES):
        raise typer.Exit(1)
    if report.state is JobState.SUCCEEDED_WITH_FAILURES or left.not_kept or dropped:
        raise typer.Exit(3)


def _show_not_retried(job: str, refused: list[str], not_kept: int, dropped: int) -> None:
    """On stderr: what only its source can bring back."""
    if not_kept:
        typer.echo(f"not retried: {not_kept:,} documents that were refused when they were read", err=True)
        for document in refused:
            typer.echo(f"  {document}", err=True)
    if dropped:
        typer.echo(
            f"not retried: {dropped:,} documents of batches that ended with job {job}, and were let go", err=True
        )
    if not_kept or dropped:
        typer.echo("ingest their source again: what is unchanged costs nothing", err=True)
