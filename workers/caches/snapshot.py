"""A snapshot of a cache in a file: written whole or not at all, and checked when it is read."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from orchestrator.contracts.errors import PayloadError
from orchestrator.contracts.payload import pack, unpack
from orchestrator.contracts.whole_file import write_whole

__all__ = ["Entry", "read_snapshot", "write_snapshot"]

# The last byte is the version; a file of another one is refused, not guessed at.
_MAGIC = b"docmill cache\x01"
_MAX_FILE_BYTES = 1 << 30  # far above a cache's default bound
_MAX_UNPACKED_BYTES = 1 << 30  # a bomb stops here

Entry = tuple[tuple[str, str], bytes]  # ((collection, key), value)


def write_snapshot(path: Path, entries: Iterable[Entry]) -> None:
    """Write entries to a file. Who reads meanwhile sees the old file or the new one, never half of one.

    Raises:
        OSError: the folder cannot be written to; a file that was there is as it was.
    """
    data = _MAGIC + pack([(collection, key, value) for (collection, key), value in entries])
    write_whole(path, data)  # only its owner may read it: it holds texts of documents


def read_snapshot(path: Path) -> Iterator[Entry]:
    """The entries of a file, in the order in which they were written.

    Raises:
        OSError: the file cannot be read.
        PayloadError: it is no snapshot, of another version, damaged, or too large; names the file.
    """
    size = path.stat().st_size
    if size > _MAX_FILE_BYTES:
        raise PayloadError(f"cache file {str(path)!r} has {size} bytes; allowed are {_MAX_FILE_BYTES}")
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        kind = "of another version of docmill" if data.startswith(_MAGIC[:-1]) else "no cache that docmill persisted"
        raise PayloadError(f"cache file {str(path)!r} is {kind}: remove it, the cache fills again")
    try:
        for collection, key, value in unpack(data[len(_MAGIC) :], max_bytes=_MAX_UNPACKED_BYTES):
            if not (isinstance(collection, str) and isinstance(key, str) and isinstance(value, bytes)):
                raise ValueError("an entry is not (collection, key, value)")
            yield (collection, key), value
    except (PayloadError, TypeError, ValueError) as error:
        message = f"cache file {str(path)!r} is damaged ({error}): remove it, the cache fills again"
        raise PayloadError(message) from error
