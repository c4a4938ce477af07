"""How a worker's children end: at once, where billiard has each sleep for a second, or wait for half a minute."""

import os
from typing import Any

import billiard.pool

__all__ = ["end_children_at_once"]


def end_children_at_once() -> None:
    """Whoever stops a worker waits for its children; for those that this process forks from now on.

    A child that ends waits until the main process has heard of its last result, which then nobody reads any more: 30 s
    by default. Here the ledger has the result, so 1 s will do. Then it would tell of its death, and sleep so that it
    is heard; of a child that was asked to go, nobody need be told.
    """
    billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 10
    tell_and_sleep = billiard.pool.Worker._do_exit

    def do_exit(worker: Any, pid: int, exitcode: int | None, error: Exception | None = None) -> None:
        if exitcode or error:
            tell_and_sleep(worker, pid, exitcode, error)  # and is gone
        try:
            if worker.on_exit is not None:
                worker.on_exit(pid, os.EX_OK)
        finally:
            os._exit(os.EX_OK)

    billiard.pool.Worker._do_exit = do_exit
