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
                for path in _walk(str(root), Path(os.path.realpath(root))):
                    yield _document(path, os.path.relpath(path, root))
            else:
                yield _document(str(root), root.name)


def _walk(folder: str, top: Path) -> Iterator[str]:
    """Paths of the files below a folder, sorted within each folder; an unreadable folder raises its OSError.

    `top` is the real path of the root.
    """
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, top)
        elif not entry.is_symlink() or _is_file_below(entry.path, top):
            yield entry.path


def _is_file_below(link: str, top: Path) -> bool:
    """Whether a link is listed. One that leads nowhere, or to itself, is: that it cannot be read is to be said."""
    target = Path(os.path.realpath(link))
    return target.is_relative_to(top) and not os.path.isdir(target)  # noqa: PTH112 - Path.is_dir may raise


def _document(path: str, relative: str) -> Document:
    name = relative.replace(os.sep, "/")
    # Built without validation: a large tree is listed at every run, changed or not.
    return Document.model_construct(id=name, text=None, uri=path, metadata={"source": name})
