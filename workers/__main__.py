"""Run one worker: `python -m workers --concurrency 2`. `docmill worker` is the same, looked after."""

import sys

import celery.apps.worker
import click
from celery.bin.base import CLIContext
from celery.bin.worker import worker

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.logs import configure_logging, get_logger
from orchestrator.contracts.registered import load_modules
from orchestrator.contracts.traces import load_tracing
from orchestrator.settings import load_settings
from workers.app import configure
from workers.child_exit import end_children_at_once
from workers.metrics.server import serve
from workers.preload import preload
from workers.tokens.callbacks import check_callback_handlers


def main(arguments: list[str]) -> None:
    """Start a Celery worker with docmill's settings; further arguments are Celery's.

    SIGTERM lets running batches end, and hands back those that have not begun. Whoever cannot wait kills the worker:
    its leases then run out, and others take them. (Celery's soft shutdown would sleep its whole timeout every time.)
    """
    end_children_at_once()
    settings = load_settings()
    configure_logging(settings.log_format, settings.log_level)  # before Celery, which warns as soon as it starts
    log = get_logger("workers")  # this module is called __main__
    # What Celery prints when it is told to stop is a line like any other.
    celery.apps.worker.safe_say = lambda said, file=None: log.info(said)
    try:
        load_modules(settings.modules)  # here, where it can be seen: a child would fail task by task
        check_callback_handlers(settings.callback_handlers)
        if settings.traces:
            load_tracing()
        if settings.metrics_port is not None:
            serve(settings.metrics_address, settings.metrics_port)
        preload(settings)
    except ConfigurationError as error:
        sys.exit(f"error: {error}")
    # Quiet: its banner is for people, and its output is read by programs as well. The command itself, not `celery`
    # around it, which loads all of its commands and the prompt of its shell: 9 MB.
    context = CLIContext(app=configure(settings), no_color=False, workdir=None, quiet=True)
    try:
        worker.main(["--without-gossip", "--without-mingle", *arguments], obj=context, standalone_mode=False)
    except click.UsageError as error:
        sys.exit(f"error: {error.format_message()}")


if __name__ == "__main__":
    main(sys.argv[1:])
