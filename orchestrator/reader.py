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
        ConfigurationError: a path does not exist; or, when iterated, before the first document: two roots hold
            different files of one id.
    """

    def __init__(self, *paths: str | Path) -> None:
        self.roots = [Path(path) for path in paths]
        for root in self.roots:
            if not root.exists():
                raise ConfigurationError(f"{str(root)!r} does not exist: give folders or files to ingest")

    def __iter__(self) -> Iterator[Document]:
        self._check_ids()
        for root in self.roots:
            yield from _listed(root)

    def _check_ids(self) -> None:
        """Refuse what would overwrite one file by another. Nothing is remembered: every name is looked up elsewhere."""
        for index, root in enumerate(self.roots[1:], start=1):
            for document in _listed(root):
                for other in self.roots[:index]:
                    path = _listed_as(document.id, other)
                    if path is not None and document.uri is not None and not Path(path).samefile(document.uri):
                        raise ConfigurationError(
                            f"{path!r} and {document.uri!r} would both be document {document.id!r}, the path below "
                            "what was given: give a folder that holds both, or ingest them into two collections"
                        )


def _listed(root: Path) -> Iterator[Document]:
    if root.is_dir():
        beginning = os.path.join(root, "")  # noqa: PTH118 - as each path begins
        for path in _walk(str(root), Path(os.path.realpath(root))):
            yield _document(path, path.removeprefix(beginning))
    else:
        yield _document(str(root), root.name)


def _listed_as(name: str, root: Path) -> str | None:
    """The file that a root lists under this id, if any."""
    if not root.is_dir():
        return str(root) if root.name == name else None
    path = os.path.join(root, name)  # noqa: PTH118 - a name that is no Unicode stays as it is
    if any(part.startswith(".") for part in name.split("/")) or not os.path.isfile(path):  # noqa: PTH113 - as above
        return None
    return path if not os.path.islink(path) or _is_file_below(path, Path(os.path.realpath(root))) else None  # noqa: PTH114


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
