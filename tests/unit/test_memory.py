"""Memory that a worker's child has freed goes back to the system."""

import ctypes
import gc
import resource
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from workers.memory import give_back_memory


def _resident_bytes() -> int:
    return resource.getpagesize() * int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc's own call")
def test_what_is_freed_is_given_back() -> None:
    """Of 80 MB in small blocks, of which every hundredth is still held, most are the system's again."""
    blocks = [bytes(2000) for _ in range(40_000)]
    held = blocks[::100]
    blocks.clear()
    before = _resident_bytes()
    give_back_memory()
    assert before - _resident_bytes() > 40_000_000
    assert len(held) == 400


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_what_only_cycles_hold_is_freed() -> None:
    """An object that nothing but itself holds is gone, though the collector has looked at it once already."""
    young = _Cycle()
    gone = weakref.ref(young)
    gc.collect(0)  # as may happen in the middle of a batch
    del young
    give_back_memory()
    assert gone() is None


_LITTLE = """
import resource
from pathlib import Path
from workers.memory import give_back_memory
def resident():
    return resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[1])
blocks = [bytes(2000) for _ in range(2000)]
held = blocks[::100]
blocks.clear()
before = resident()
give_back_memory()
print(before - resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc's own call, since 2.33")
def test_little_is_kept_for_the_next_batch() -> None:
    """Of 4 MB in small blocks nothing goes back: the next batch would only ask for it again."""
    # In a process of its own, for this one may have much that is free.
    done = subprocess.run([sys.executable, "-c", _LITTLE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 500_000
