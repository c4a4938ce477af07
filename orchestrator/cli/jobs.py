"""`docmill jobs`, `status`, `failures`, `cancel`: what the ledger knows of jobs."""

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, JobId

if TYPE_CHECKING:
    from orchestrator.ledger.failures import FailureRow

__all__ = ["register"]


# What a batch's state means to somebody who waits, where the word alone does not say it.
_SHOWN_STATES = {
    "pending": "pending",
    "waiting": "waiting for a worker",
    "transformed": "waiting for a commit",
    "failed": "quarantined",
}


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (jobs, status, failures, cancel, pause, resume):
        app.command()(command)


def jobs(
    limit: Annotated[int, typer.Option("-n", min=1, max=10_000, help="Jobs to list, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    from orchestrator.cli.show import print_json, print_table
    from orchestrator.ledger import jobs as ledger_jobs
    from orchestrator.ledger.engine import begin
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings

    with Runtime(load_settings()) as runtime, begin(runtime.connections.engine) as connection:
        rows = ledger_jobs.recent(connection, limit)
    if as_json:
        print_json(
            {
                "jobs": [
                    {
                        "job_id": row.id,
                        "state": row.state,
                        "collection": row.collection,
                        "created_at": row.created_at.isoformat(),
                        "finished_at": row.finished_at.isoformat() if row.finished_at else None,
                    }
                    for row in rows
                ]
            }
        )
        return
    print_table(
        None,
        ("job", "state", "collection", "created (UTC)", "seconds"),
        [
            (
                row.id,
                row.state,
                row.collection,
                f"{row.created_at:%Y-%m-%d %H:%M:%S}",
                f"{(row.finished_at - row.created_at).total_seconds():.1f}" if row.finished_at else "",
            )
            for row in rows
        ],
    )


def status(
    job: Annotated[
        str | None,
        typer.Argument(metavar="[JOB]", help="Its id; --watch without one: all unfinished.", show_default=False),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow it until it ends; Ctrl-C ends the watching alone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far a job is, and its report; or watch it. A job that was watched says by the exit code how it ended."""
    if watch:
        _watch(job, as_json)
        return
    if job is None:
        raise typer.BadParameter("give the id of a job (`docmill jobs` lists them), or --watch for all unfinished ones")
    from orchestrator.cli.show import print_json, print_report, report_object
    from orchestrator.job import Job
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings

    with Runtime(load_settings()) as runtime:
        found = Job(runtime.connections, job)
        report, progress = found.report, found.progress
    if as_json:
        print_json(
            {
                **report_object(report),
                "paused": progress.paused,
                "batch_states": progress.batches,
                "stalled": progress.stalled,
                "reasons": progress.reasons,
            }
        )
        return
    print_report(report)
    if progress.paused:
        typer.echo(f"  paused     docmill resume {job}")
    states = ", ".join(f"{count:,} {_SHOWN_STATES.get(state, state)}" for state, count in progress.batches.items())
    if states:
        typer.echo(f"  by state   {states}")
    if progress.stalled:
        typer.echo(f"  stalled    {progress.stalled:,} running batches whose worker is silent; others take over soon")
    for reason in progress.reasons:
        typer.echo(f"  retrying   {reason}")


def _watch(job: str | None, as_json: bool) -> None:
    """Show jobs until they end, then their reports."""
    from orchestrator.cli.show import print_report
    from orchestrator.cli.waiting import exit_code
    from orchestrator.cli.watch import watch
    from orchestrator.job import Job
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings

    with Runtime(load_settings()) as runtime:
        ended = watch(runtime.connections, job, as_json=as_json)
        if not as_json:
            for id in ended:
                print_report(Job(runtime.connections, id).report)
            if not ended:
                typer.echo("all jobs are finished", err=True)
    raise typer.Exit(exit_code(ended.values()))


def failures(
    job: JobId,
    limit: Annotated[int, typer.Option("-n", min=1, max=100_000, help="Failures to show.")] = 1000,
    show_all: Annotated[bool, typer.Option("--all", help="Show also those that were ingested since.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the documents that were refused, and why."""
    from dataclasses import asdict

    from orchestrator.cli.show import print_json, print_table
    from orchestrator.job import Job
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings

    with Runtime(load_settings()) as runtime:
        found = Job(runtime.connections, job)
        state = found.state  # says so if there is no such job
        rows = found.failures(limit=limit, include_resolved=show_all)
    if as_json:
        print_json({"job_id": job, "failures": [asdict(row) for row in rows]})
    elif rows:
        print_table(
            None,
            ("document", "stage", "error", *(("resolved (UTC)",) if show_all else ()), "message"),
            [(row.document_id, row.stage, row.error, *_resolved(row, show_all), row.message) for row in rows],
        )
    else:
        typer.echo(f"job {job} ({state}) has no {'' if show_all else 'unresolved '}failures", err=True)


def _resolved(row: "FailureRow", is_shown: bool) -> tuple[str, ...]:
    """The cell that says when the document was ingested after all."""
    if not is_shown:
        return ()
    return (f"{row.resolved_at:%Y-%m-%d %H:%M:%S}" if row.resolved_at else "",)


def cancel(job: JobId, as_json: AsJson = False) -> None:
    """Stop a job: what is committed stays, nothing more is."""
    from orchestrator.cli.show import print_json
    from orchestrator.job import Job
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings

    with Runtime(load_settings()) as runtime:
        state = Job(runtime.connections, job).cancel()
    print_json({"job_id": job, "state": state}) if as_json else typer.echo(f"job {job}: {state}")


def pause(job: JobId, as_json: AsJson = False) -> None:
    """Begin no more batches of a job; those that run end."""
    _set_paused(job, True, as_json)


def resume(job: JobId, as_json: AsJson = False) -> None:
    """Let a paused job go on."""
    _set_paused(job, False, as_json)


def _set_paused(job: str, paused: bool, as_json: bool) -> None:
    from orchestrator.cli.show import print_json
    from orchestrator.job import Job
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings

    with Runtime(load_settings()) as runtime:
        found = Job(runtime.connections, job)
        found.pause() if paused else found.resume()
        progress = found.progress
    shown = {"job_id": job, "state": progress.state, "paused": progress.paused}
    print_json(shown) if as_json else typer.echo(f"job {job}: {'paused' if progress.paused else progress.state}")
