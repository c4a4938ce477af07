"""`docmill`: the commands, and how their errors are shown."""

import signal
import sys
from typing import Annotated, NoReturn

import typer

from orchestrator.cli import cache, ingest, jobs, retry, search, services, settings, verify
from orchestrator.contracts.errors import DocmillError

__all__ = ["app", "main"]

app = typer.Typer(
    name="docmill",
    help="Distributed document ingestion for retrieval: nothing lost, nothing doubled, nothing paid for twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
for module in (ingest, search, jobs, retry, verify, cache, settings, services):
    module.register(app)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"docmill {version('docmill')}")
        raise typer.Exit


@app.callback()
def _begin(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if {"-h", "--help"} & set(sys.argv):
        return  # which is answered without reading any settings
    from orchestrator.contracts.logs import configure_logging
    from orchestrator.settings import load_settings

    settings = load_settings()
    configure_logging(settings.log_format, settings.log_level)


def main() -> NoReturn:
    """Run the command line. Exit codes: 0 success, 1 failure, 2 wrong usage, 3 some documents failed, 130 Ctrl-C."""
    # SIGTERM unwinds like any other end, so that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app(standalone_mode=True)
    except DocmillError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _fail(error: DocmillError) -> NoReturn:
    if "--json" in sys.argv:
        from orchestrator.cli.show import print_json

        print_json({"error": type(error).__name__, "message": str(error)})
    else:
        typer.echo(f"error: {error}", err=True)
    sys.exit(1)
