"""Files that are written whole or not at all."""

import os
import tempfile
from pathlib import Path

__all__ = ["write_whole"]

_PRIVATE = 0o600


def write_whole(path: Path, data: bytes, *, mode: int = _PRIVATE) -> None:
    """Write a file under another name, and rename it: who reads meanwhile sees the old file or the new one.

    Args:
        mode: permissions of the file; default: its owner alone reads it.

    Raises:
        OSError: the folder cannot be written to; a file that was there is as it was.
    """
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).chmod(mode)
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
