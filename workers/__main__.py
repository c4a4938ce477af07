"""Run one worker: `python -m workers --concurrency 2`. `docmill worker` is the same, looked after."""

import os
import sys

# SIGTERM means: stop taking work, give running tasks a while, hand back the rest. Celery reads it when imported.
os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")

from orchestrator.settings import load_settings  # noqa: E402
from workers.app import configure  # noqa: E402


def main(arguments: list[str]) -> None:
    """Start a Celery worker with docmill's settings; further arguments are Celery's."""
    app = configure(load_settings())
    app.worker_main(["worker", "--without-gossip", "--without-mingle", "--loglevel", "WARNING", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
