"""Files as documents: listed, not read. The id of a file is its POSIX path relative to the root it was found under."""

import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator.contracts.documents import Document
from orchestrator.contracts.errors import ConfigurationError

__all__ = ["FileReader"]


class FileReader:
    """The files below folders, or single files, in a stable order. Iterate it as often as you like.

    Names that begin with a dot are left out, and links to folders are not followed, so no loop is walked. A link to
    a file counts as a file if it stays below the root. What cannot be read becomes a failure of that one document
    when its turn comes, not of the listing.

    Raises:
        ConfigurationError: a path does not exist.
    """

    def __init__(self, *paths: str | Path) -> None:
        self.roots = [Path(path) for path in paths]
        for root in self.roots:
            if not root.exists():
                raise ConfigurationError(f"{str(root)!r} does not exist: give folders or files to ingest")

    def __iter__(self) -> Iterator[Document]:
        for root in self.roots:
            if root.is_dir():
                for path in _walk(str(root)):
                    yield _document(path, os.path.relpath(path, root))
            else:
                yield _document(str(root), root.name)


def _walk(folder: str) -> Iterator[str]:
    """Paths of the files below a folder, sorted within each folder; an unreadable folder raises its OSError."""
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif not (entry.is_symlink() and _is_folder(entry)):
            yield entry.path


def _is_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:  # a link to itself: listed as a file, which cannot be read
        return False


def _document(path: str, relative: str) -> Document:
    name = relative.replace(os.sep, "/")
    # Built without validation: a large tree is listed at every run, changed or not.
    return Document.model_construct(id=name, text=None, uri=path, metadata={"source": name})
