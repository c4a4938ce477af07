"""Locks between processes: released by the kernel when their holder dies, and never kept by its forks."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

__all__ = ["FileLock"]


class FileLock:
    """An flock on a file, which is made if it is missing and never removed (removing it would split the lock)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        _locks.add(self)

    @property
    def is_held(self) -> bool:
        """This object holds the lock, shared or exclusive."""
        return self._descriptor is not None

    def acquire(self, *, shared: bool = False, wait: bool = True) -> bool:
        """Take the lock, or turn the one that is held into the other kind. False if others hold it against us.

        A lock that could not be turned may be lost (flock does not promise more): release it then.
        """
        fresh = self._descriptor is None
        descriptor = self._open() if self._descriptor is None else self._descriptor
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BaseException as error:
            if fresh:
                os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let go; nothing happens if it is not held."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        # A fork shares the lock until it has closed its copy: closing ours alone might not free it.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Wait for the lock and hold it for a block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def write(self, text: str) -> None:
        """Replace what the file says; only the holder may."""
        if self._descriptor is None:
            raise RuntimeError(f"lock {self.path} is not held")
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def forget(self) -> None:
        """In a fork: close the copy. The parent's lock stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


_locks: WeakSet[FileLock] = WeakSet()


def _forget_all() -> None:
    for lock in tuple(_locks):
        lock.forget()


os.register_at_fork(after_in_child=_forget_all)
