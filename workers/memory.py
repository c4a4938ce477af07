"""Memory of a worker's children: bounded, so that a document that would take all of it costs itself, and given back."""

from __future__ import annotations

import ctypes
import resource
import sys

__all__ = ["give_back_memory", "limit_memory"]

# glibc's; other C libraries have no such call, or give memory back by themselves.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


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


def give_back_memory() -> None:
    """Hand to the system what this process has freed: 1 ms after a batch, for some 10 MB a child."""
    if _trim is not None:
        _trim(0)
