"""`docmill worker`, `flower`, `up`, `down`, `db upgrade`, `doctor`: the services, and whether they are well."""

import sys
from typing import Annotated

import typer

from orchestrator.cli.options import AsJson

__all__ = ["register"]

_LOOPBACK = "127.0.0.1"

db = typer.Typer(help="The ledger's schema.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (worker, flower, up, down, doctor):
        app.command()(command)
    app.add_typer(db, name="db")


def worker(
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help="Processes.  [default: one a core]")
    ] = None,
) -> None:
    """Run a worker here until Ctrl-C or SIGTERM; it is started again whenever it dies."""
    from orchestrator.contracts.logs import get_logger
    from orchestrator.runtime import Runtime, default_workers
    from orchestrator.settings import load_settings

    count = concurrency or default_workers()
    with Runtime(load_settings(), workers=count, log_to_file=False) as runtime:
        runtime.connections.check()
        get_logger(__name__).info("worker runs until Ctrl-C", processes=count)
        _until_told_to_stop()


def flower(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 5555,
    address: Annotated[str, typer.Option(help="Address to listen on.")] = _LOOPBACK,
) -> None:
    """Watch tasks and workers in Flower. It has no login by itself, so it listens on this machine only."""
    import subprocess

    from orchestrator.contracts.logs import get_logger
    from orchestrator.runtime import Runtime, worker_environment
    from orchestrator.settings import load_settings

    with Runtime(load_settings()) as runtime:
        command = [sys.executable, "-m", "orchestrator.cli.flower", f"--address={address}", f"--port={port}"]
        get_logger(__name__).info("Flower runs until Ctrl-C", address=f"http://{address}:{port}")
        process = subprocess.Popen(command, env=_environment(worker_environment(runtime.settings)))
        try:
            code = process.wait()
        finally:
            process.terminate()
            process.wait()
    raise typer.Exit(code)


def up(
    workers: Annotated[int | None, typer.Option(min=0, help="Worker processes.  [default: one a core]")] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay in the foreground.")] = False,
) -> None:
    """Start the embedded stack with its workers, and keep it running."""
    from orchestrator.contracts.errors import ConfigurationError
    from orchestrator.embedded import announced
    from orchestrator.embedded import up as start
    from orchestrator.runtime import Runtime, default_workers
    from orchestrator.settings import load_settings

    settings = load_settings()
    if not settings.is_embedded:
        raise ConfigurationError(
            "DOCMILL_DATABASE_URL and DOCMILL_BROKER_URL are set: `docmill up` starts the embedded stack only; "
            "run `docmill worker` for these services"
        )
    count = default_workers() if workers is None else workers
    if foreground:
        with Runtime(settings, workers=count), announced(settings.home):
            _until_told_to_stop()
        return
    command = [sys.executable, "-m", "orchestrator.cli", "up", "--foreground", "--workers", str(count)]
    pid = start(settings.home, command)
    typer.echo(f"docmill is up (process {pid}, {count} worker processes, data in {settings.home}); stop: docmill down")


def down() -> None:
    """Stop what `docmill up` started."""
    from orchestrator.embedded import EmbeddedStack
    from orchestrator.embedded import down as stop
    from orchestrator.settings import load_settings

    home = load_settings().home
    stopped = stop(home)
    typer.echo("docmill is down" if stopped else f"nothing was up in {home}")
    if EmbeddedStack(home).is_used():
        typer.echo("another command still uses the servers; they stop with it", err=True)


@db.command("upgrade")
def upgrade() -> None:
    """Bring the ledger's schema to the level of this release."""
    from orchestrator.ledger.migrate import current_revision
    from orchestrator.ledger.migrate import upgrade as migrate
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings

    with Runtime(load_settings()) as runtime:
        before = current_revision(runtime.connections.engine)
        migrate(runtime.connections.engine)
        after = current_revision(runtime.connections.engine)
    typer.echo(f"the ledger is at {after}" + (f" (was {before or 'empty'})" if before != after else " already"))


def doctor(as_json: AsJson = False) -> None:
    """Check the deployment, and say how to mend what is wrong."""
    from dataclasses import asdict

    from orchestrator.cli.checkup import checkup
    from orchestrator.cli.show import print_json, print_table
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings

    with Runtime(load_settings()) as runtime:
        findings = checkup(runtime.connections)
    is_well = all(finding.ok for finding in findings)
    if as_json:
        print_json({"ok": is_well, "checks": [asdict(finding) for finding in findings]})
    else:
        print_table(
            None,
            ("check", "", "finding"),
            [(finding.name, "ok" if finding.ok else "WRONG", finding.message) for finding in findings],
        )
    raise typer.Exit(0 if is_well else 1)


def _environment(ours: dict[str, str]) -> dict[str, str]:
    import os

    return {**os.environ, **ours}


def _until_told_to_stop() -> None:
    """Wait for SIGTERM or Ctrl-C."""
    import signal
    import threading

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
