"""Run one worker: `python -m workers --concurrency 2`. `docmill worker` is the same, looked after."""

import sys

from orchestrator.settings import load_settings
from workers.app import configure


def main(arguments: list[str]) -> None:
    """Start a Celery worker with docmill's settings; further arguments are Celery's.

    SIGTERM lets running batches end, and hands back those that have not begun. Whoever cannot wait kills the worker:
    its leases then run out, and others take them. (Celery's soft shutdown would sleep its whole timeout every time.)
    """
    app = configure(load_settings())
    app.worker_main(["worker", "--without-gossip", "--without-mingle", "--loglevel", "WARNING", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
