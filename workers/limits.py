"""Limits of a worker's children: a document that would take all memory costs itself, not the machine."""

from __future__ import annotations

import resource
import sys

__all__ = ["limit_memory"]


def limit_memory(max_bytes: int) -> None:
    """Let this process allocate so many bytes of its own at most; 0 for no limit.

    Past it an allocation fails: Python raises MemoryError, other code may abort; either way the batch is halved until
    the document to blame stands alone. Code, files and memory shared with other processes do not count. Linux alone
    enforces it.
    """
    if max_bytes and sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = max_bytes if hard == resource.RLIM_INFINITY else min(max_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
