"""Who runs this process, as a job's starter is named."""

import getpass
import os
import socket

__all__ = ["process_user"]


def process_user() -> str:
    """`user@host`; the user's number where the system has no name for it, as in some containers."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
