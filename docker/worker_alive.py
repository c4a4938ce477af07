"""The health check of a worker's container: its main process answers a ping that goes over the broker."""

import socket
import sys

from orchestrator.settings import load_settings
from workers.app import configure

_PATIENCE_SECONDS = 5.0


def main() -> None:
    """Ping the worker of this host; exit code 0 if it answers."""
    name = f"celery@{socket.gethostname()}"
    answers = configure(load_settings()).control.ping(destination=[name], timeout=_PATIENCE_SECONDS)
    sys.exit(0 if answers else f"{name} does not answer over the broker")


if __name__ == "__main__":
    main()
