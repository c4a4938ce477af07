"""Memory of a worker's children: bounded, so that a document that would take all of it costs itself, and given back."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys

__all__ = ["give_back_memory", "limit_memory"]

_FREE_BYTES = 12 * 1024 * 1024  # that a process may keep: ordinary batches then take what the last ones have left


class _HeapInfo(ctypes.Structure):
    """What glibc's mallinfo2 returns: https://man7.org/linux/man-pages/man3/mallinfo.3.html."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


# glibc's; other C libraries have no such calls, or give memory back by themselves.
_c_library = ctypes.CDLL(None)
_trim = getattr(_c_library, "malloc_trim", None)
_heap_info = getattr(_c_library, "mallinfo2", None)
if _heap_info is not None:
    _heap_info.restype = _HeapInfo


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
    """Free what only its cycles hold, and hand to the system what this process has freed, if that is much.

    Little is left for the next batch: to hand it back and ask for it again took a twentieth of a worker's time.
    """
    # SQLAlchemy's statements are cycles. Young, they cost 0.1 ms to find; left alone they grow old, and are found only
    # when a quarter of all objects is as old: up to 8 MB of a child were theirs.
    gc.collect(1)
    if _trim is not None and (_heap_info is None or _heap_info().fordblks > _FREE_BYTES):
        _trim(0)
