"""Run Flower on docmill's app: `python -m workers.flower --address=127.0.0.1 --port=5555`.

That one shows jobs; `docmill flower` runs one that controls them too.
"""

import sys

from orchestrator.contracts.logs import configure_logging
from orchestrator.settings import load_settings
from workers.app import configure
from workers.jobs_page.controls import Controls
from workers.jobs_page.page import add_jobs_page
from workers.metrics.page import add_metrics

_MAX_TASKS = 20_000  # kept in memory, 3.9 KB each
_COLUMNS = "name,args,state,result,runtime,received,worker"  # what a task is about, rather than its number


def main(arguments: list[str], controls: Controls | None = None) -> None:
    """Start Flower; arguments are Flower's own.

    Args:
        controls: what may be done to jobs from their pages.
    """
    settings = load_settings()
    configure_logging(settings.log_format, settings.log_level)
    app = configure(settings)
    add_metrics(settings)
    add_jobs_page(settings, controls)
    app.start(["flower", f"--max-tasks={_MAX_TASKS}", f"--tasks-columns={_COLUMNS}", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
